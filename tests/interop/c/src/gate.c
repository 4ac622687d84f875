/*
 * A way to the server that can be shut: what is connected is cut, and whoever comes is turned away until it opens.
 * One thread carries all bytes. For one client, which has one connection at a time.
 */
#include "gate.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int listener, target;
static volatile int shut;

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int carry(int from, int to) {
    char bytes[65536];
    ssize_t got = read(from, bytes, sizeof bytes);
    for (ssize_t sent = 0, n; sent < got; sent += n)
        if ((n = write(to, bytes + sent, got - sent)) <= 0)
            return 0;
    return got > 0;
}

static void *serve(void *unused) {
    int client = -1, server = -1;
    for (;;) {
        struct pollfd waits[] = {{listener, POLLIN, 0}, {client, POLLIN, 0}, {server, POLLIN, 0}};
        poll(waits, 3, 10);
        int lives = client >= 0 && !shut;
        if (lives && waits[1].revents)
            lives = carry(client, server);
        if (lives && waits[2].revents)
            lives = carry(server, client);
        if (client >= 0 && !lives) {
            close(client);
            close(server);
            client = server = -1;
        }
        if (waits[0].revents) {
            int came = accept(listener, NULL, NULL);
            if (shut || client >= 0 || (server = connect_to(target)) < 0)
                close(came);
            else
                client = came;
        }
    }
    return unused;
}

const char *gate_host(int port) {
    static char host[32];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    pthread_t thread;
    target = port;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 || pthread_create(&thread, NULL, serve, NULL) != 0)
        abort();
    snprintf(host, sizeof host, "127.0.0.1:%d", ntohs(address.sin_port));
    return host;
}

void gate_shut(int yes) { shut = yes; }
