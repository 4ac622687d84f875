/* A way to the server that can be shut. */
#ifndef GATE_H
#define GATE_H

/* Opens the gate to a port of 127.0.0.1; what a client connects to. */
const char *gate_host(int port);
void gate_shut(int yes);

#endif
