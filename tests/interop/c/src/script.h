/*
 * Steps of a transcript: one call after the other, and what came of it, as text that is the same in every run.
 *
 * A zxid is shown by its distance from the section's first one; one from before the section is "old". A time is T when it
 * is about now. Sessions have names. Events appear in the step in which they came.
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdint.h>
#include <zookeeper.h>

/* Calls a function of the library by its name, and remembers that it was called. */
#define CALL(function) (called(#function), function)

/* How long anything may take before the step says that it did not happen, in ms. */
enum { PATIENCE_MS = 30000 };

void begin_script(const char *transcript);
void end_script(void);
void called(const char *function);

/* Handles that are synced with before a step's events are written down: a sync's answer comes behind all of them. */
void follow(zhandle_t *zh);
void forget(zhandle_t *zh);
void name_session(int64_t id, const char *name);

/* From here on zxids count from a node that is made now, /name. */
void section(const char *name, zhandle_t *zh);

/* A step: its name, then any lines, then its events. */
void step(const char *format, ...) __attribute__((format(printf, 1, 2)));
void line(const char *format, ...) __attribute__((format(printf, 1, 2)));
void done(void);

/* What a function has returned. */
void result(const char *function, int rc);
const char *session_name(int64_t id);
const char *stat_text(const struct Stat *stat);
const char *data_text(const char *data, int length);
const char *strings_text(const struct String_vector *strings);
const char *acl_text(const struct ACL_vector *acl);
/* Without ports. */
const char *masked(const char *text);

/* A watcher; its context is its name. */
void watch(zhandle_t *zh, int type, int state, const char *path, void *context);
/* Whether a watcher of this name has been told of this state of the session, and it is not written down yet. */
int saw(const char *watcher, int state);
/* Keeps events for a later step, for it is a matter of time in which step they come; `release` ends it. */
void hold(void);
void release(void);

/* Completions: each writes one line; `answered` waits for it. */
void on_void(int rc, const void *data);
void on_stat(int rc, const struct Stat *stat, const void *data);
void on_data(int rc, const char *value, int length, const struct Stat *stat, const void *data);
void on_strings(int rc, const struct String_vector *strings, const void *data);
void on_strings_stat(int rc, const struct String_vector *strings, const struct Stat *stat, const void *data);
void on_string(int rc, const char *value, const void *data);
void on_string_stat(int rc, const char *value, const struct Stat *stat, const void *data);
void on_acl(int rc, struct ACL_vector *acl, struct Stat *stat, const void *data);
/* The function's own return code, then the completion's line. */
void answered(const char *function, int rc);

/* One turn of the host: waits a moment, or drives the single-threaded library. */
extern void (*turn)(void);
#define UNTIL(what, holds) \
    do { \
        int64_t end = now_ms() + PATIENCE_MS; \
        while (!(holds) && now_ms() < end) \
            turn(); \
        line("%s%s", (holds) ? "" : "not ", what); \
    } while (0)
int64_t now_ms(void);

#endif
