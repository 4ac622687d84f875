"""What the process tests stand on: real server processes, and clients small enough to be trusted.

`command` says which program a server is, `ports` and `ensemble` run it, `wire` speaks the client protocol with
nothing but `struct` and sockets, `tree` reads and compares whole trees, `until` waits. Nothing here knows zabkit's
inside: all of it runs against Apache ZooKeeper as well.
"""
