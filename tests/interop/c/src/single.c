/*
 * The library without threads, which its host drives by `zookeeper_interest` and `zookeeper_process`.
 *
 *     single TRANSCRIPT PORT
 */
#include <poll.h>
#include <stdio.h>

#include "script.h"

static zhandle_t *zh;
static const void *CTX = "ctx";

/* Waits for what the library wants, at most 20 ms, and lets it work. */
static void drive(void) {
    int fd = -1, interest = 0, ready = 0;
    struct timeval patience;
    int rc = CALL(zookeeper_interest)(zh, &fd, &interest, &patience);
    if (rc == ZOK && fd >= 0) {
        struct pollfd waits = {fd, (interest & ZOOKEEPER_READ ? POLLIN : 0) | (interest & ZOOKEEPER_WRITE ? POLLOUT : 0), 0};
        poll(&waits, 1, 20);
        ready = (waits.revents & (POLLIN | POLLHUP | POLLERR) ? ZOOKEEPER_READ : 0) | (waits.revents & POLLOUT ? ZOOKEEPER_WRITE : 0);
        CALL(zookeeper_process)(zh, ready);
    }
}

#define ASYNC(note, function, arguments) \
    do { \
        step("%s", note); \
        answered(#function, CALL(function) arguments); \
        done(); \
    } while (0)

int main(int argc, char **argv) {
    char host[64];
    if (argc < 3)
        return 2;
    snprintf(host, sizeof host, "127.0.0.1:%s", argv[2]);
    begin_script(argv[1]);
    CALL(zoo_set_debug_level)(ZOO_LOG_LEVEL_ERROR);
    turn = drive;
    zh = CALL(zookeeper_init)(host, watch, 10000, NULL, "single", 0);
    step("connect");
    UNTIL("connected", zoo_state(zh) == ZOO_CONNECTED_STATE);
    name_session(zoo_client_id(zh)->client_id, "single");
    follow(zh);
    done();
    section("single", zh);
    ASYNC("create", zoo_acreate2, (zh, "/single/e", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, on_string_stat, CTX));
    ASYNC("watch", zoo_awget, (zh, "/single/e", watch, "A", on_data, CTX));
    ASYNC("names", zoo_awget_children2, (zh, "/single", watch, "B", on_strings_stat, CTX));
    ASYNC("set", zoo_aset, (zh, "/single/e", "yy", 2, 0, on_stat, CTX));
    ASYNC("acl", zoo_aget_acl, (zh, "/single/e", on_acl, CTX));
    ASYNC("delete", zoo_adelete, (zh, "/single/e", 1, on_void, CTX));
    ASYNC("delete none", zoo_adelete, (zh, "/single/e", 1, on_void, CTX));
    forget(zh);
    step("close");
    result("zookeeper_close", CALL(zookeeper_close)(zh));
    done();
    end_script();
    return 0;
}
