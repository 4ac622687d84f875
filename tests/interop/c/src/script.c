#include "script.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 4096, NAMES_MAX = 256, HANDLES_MAX = 8, TEXT_MAX = 16384 };

static FILE *out;
static char section_name[64];
static int64_t base;
static const char *functions[NAMES_MAX];
static int functions_count;
static char step_names[2048][128];
static int steps_count;
static zhandle_t *handles[HANDLES_MAX];
static struct { int64_t id; const char *name; } sessions[NAMES_MAX];
static int sessions_count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { const char *watcher; int type, state; char path[1024]; } events[EVENTS_MAX];
static int events_count, held;
static char answer[TEXT_MAX];
static int answers;

static void pause_ms(void) { usleep(2000); }
void (*turn)(void) = pause_ms;

int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void begin_script(const char *transcript) {
    out = fopen(transcript, "w");
    if (!out) {
        perror(transcript);
        exit(2);
    }
}

void end_script(void) {
    fclose(out);
    for (int i = 0; i < functions_count; i++)
        printf("called %s\n", functions[i]);
}

void called(const char *function) {
    for (int i = 0; i < functions_count; i++)
        if (!strcmp(functions[i], function))
            return;
    functions[functions_count++] = function;
}

void follow(zhandle_t *zh) {
    for (int i = 0; i < HANDLES_MAX; i++)
        if (!handles[i]) {
            handles[i] = zh;
            return;
        }
    abort();
}

void forget(zhandle_t *zh) {
    for (int i = 0; i < HANDLES_MAX; i++)
        if (handles[i] == zh)
            handles[i] = NULL;
}

void name_session(int64_t id, const char *name) {
    sessions[sessions_count].id = id;
    sessions[sessions_count++].name = name;
}

const char *session_name(int64_t id) {
    if (id == 0)
        return "0";
    for (int i = 0; i < sessions_count; i++)
        if (sessions[i].id == id)
            return sessions[i].name;
    return "somebody";
}

static int section_answered;
static void on_section(int rc, const char *value, const struct Stat *stat, const void *data) {
    (void)value, (void)data;
    if (rc != ZOK)
        fprintf(stderr, "section: %s\n", zerror(rc));
    base = rc == ZOK ? stat->czxid : 0;
    section_answered = 1;
}

void section(const char *name, zhandle_t *zh) {
    char path[80];
    snprintf(section_name, sizeof section_name, "%s", name);
    snprintf(path, sizeof path, "/%s", name);
    section_answered = 0;
    zoo_acreate2(zh, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, on_section, NULL);
    while (!*(volatile int *)&section_answered)
        turn();
}

void step(const char *format, ...) {
    char note[96], name[168];
    va_list args;
    va_start(args, format);
    vsnprintf(note, sizeof note, format, args);
    va_end(args);
    snprintf(name, sizeof name, "%s: %s", section_name, note);
    for (int i = 0; i < steps_count; i++)
        if (!strcmp(step_names[i], name)) {
            fprintf(stderr, "two steps are called %s\n", name);
            exit(2);
        }
    snprintf(step_names[steps_count++], sizeof step_names[0], "%.127s", name);
    fprintf(out, "[%s]\n", name);
}

void line(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("  ", out);
    vfprintf(out, format, args);
    fputs("\n", out);
    va_end(args);
    fflush(out);
}

static const char *code_text(int rc) {
    static char text[96];
    snprintf(text, sizeof text, "%d %s", rc, zerror(rc));
    return text;
}

void result(const char *function, int rc) { line("%s -> %s", function, code_text(rc)); }

static int synced;
static void on_synced(int rc, const char *value, const void *data) {
    (void)rc, (void)value, (void)data;
    __atomic_add_fetch(&synced, 1, __ATOMIC_SEQ_CST);
}

static const char *state_text(int state) {
    if (state == ZOO_CONNECTED_STATE)
        return "connected";
    if (state == ZOO_CONNECTING_STATE || state == ZOO_ASSOCIATING_STATE || state == ZOO_NOTCONNECTED_STATE)
        return "connecting";
    if (state == ZOO_EXPIRED_SESSION_STATE)
        return "expired";
    if (state == ZOO_AUTH_FAILED_STATE)
        return "authentication failed";
    return state == ZOO_READONLY_STATE ? "read-only" : "another";
}

static const char *type_text(int type) {
    if (type == ZOO_CREATED_EVENT)
        return "created";
    if (type == ZOO_DELETED_EVENT)
        return "deleted";
    if (type == ZOO_CHANGED_EVENT)
        return "changed";
    if (type == ZOO_CHILD_EVENT)
        return "child";
    return type == ZOO_SESSION_EVENT ? "session" : type == ZOO_NOTWATCHING_EVENT ? "not watching" : "another";
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

void done(void) {
    for (int i = 0; i < HANDLES_MAX; i++)
        if (handles[i] && zoo_state(handles[i]) == ZOO_CONNECTED_STATE) {
            int before = synced;
            int64_t end = now_ms() + PATIENCE_MS;
            if (zoo_async(handles[i], "/", on_synced, NULL) == ZOK)
                while (__atomic_load_n(&synced, __ATOMIC_SEQ_CST) == before && now_ms() < end)
                    turn();
        }
    pthread_mutex_lock(&lock);
    if (!held) {
        char *lines[EVENTS_MAX];
        for (int i = 0; i < events_count; i++) {
            lines[i] = malloc(1200);
            snprintf(lines[i], 1200, "event %s: %s %s %s", events[i].watcher, type_text(events[i].type),
                     state_text(events[i].state), events[i].path);
        }
        /* The library tells the watchers of one event in the order of a hash table. */
        qsort(lines, events_count, sizeof lines[0], by_text);
        for (int i = 0; i < events_count; i++) {
            line("%s", lines[i]);
            free(lines[i]);
        }
        events_count = 0;
    }
    pthread_mutex_unlock(&lock);
}

void watch(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh;
    pthread_mutex_lock(&lock);
    /* How often a client fails to connect is a matter of time. */
    int again = events_count && type == ZOO_SESSION_EVENT && events[events_count - 1].type == type &&
                events[events_count - 1].state == state && events[events_count - 1].watcher == context;
    if (events_count < EVENTS_MAX && !again) {
        events[events_count].watcher = context ? context : "nobody";
        events[events_count].type = type;
        events[events_count].state = state;
        snprintf(events[events_count++].path, sizeof events[0].path, "%s", path ? path : "null");
    }
    pthread_mutex_unlock(&lock);
}

int saw(const char *watcher, int state) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < events_count; i++)
        found |= !strcmp(events[i].watcher, watcher) && events[i].type == ZOO_SESSION_EVENT && events[i].state == state;
    pthread_mutex_unlock(&lock);
    return found;
}

void hold(void) { held = 1; }
void release(void) { held = 0; }

static char *next_text(void) {
    static char texts[8][TEXT_MAX];
    static int at;
    return texts[at++ % 8];
}

static const char *zxid_text(int64_t zxid) {
    static char texts[8][32];
    static int at;
    char *text = texts[at++ % 8];
    if (zxid <= 0)
        snprintf(text, 32, "%lld", (long long)zxid);
    else if (zxid < base)
        snprintf(text, 32, "old");
    else
        snprintf(text, 32, "z+%lld", (long long)(zxid - base));
    return text;
}

static const char *time_text(int64_t ms) {
    static char texts[4][32];
    static int at;
    char *text = texts[at++ % 4];
    if (llabs(now_ms() - ms) < 3600000)
        return "T";
    snprintf(text, 32, "%lld", (long long)ms);
    return text;
}

const char *stat_text(const struct Stat *s) {
    char *text = next_text();
    if (!s)
        return "null";
    snprintf(text, TEXT_MAX,
             "{czxid %s mzxid %s pzxid %s ctime %s mtime %s version %d cversion %d aversion %d owner %s length %d children %d}",
             zxid_text(s->czxid), zxid_text(s->mzxid), zxid_text(s->pzxid), time_text(s->ctime), time_text(s->mtime), s->version,
             s->cversion, s->aversion, session_name(s->ephemeralOwner), s->dataLength, s->numChildren);
    return text;
}

const char *masked(const char *from) {
    char *text = next_text(), *to = text;
    if (!from)
        return "null";
    while (*from && to < text + TEXT_MAX - 16) {
        if (*from == ':' && from[1] >= '0' && from[1] <= '9') {
            to += sprintf(to, ":#");
            for (from++; *from >= '0' && *from <= '9'; from++)
                ;
        } else if (*from == '\n') {
            to += sprintf(to, "\\n");
            from++;
        } else {
            *to++ = *from++;
        }
    }
    *to = 0;
    return text;
}

const char *data_text(const char *data, int length) {
    char *text = next_text();
    if (length < 0 || !data)
        snprintf(text, TEXT_MAX, "null(%d)", length);
    else if (length > 600)
        snprintf(text, TEXT_MAX, "<%d bytes>", length);
    else {
        char copy[601];
        memcpy(copy, data, length);
        copy[length] = 0;
        snprintf(text, TEXT_MAX, "'%s'", masked(copy));
    }
    return text;
}

const char *strings_text(const struct String_vector *strings) {
    char *text = next_text();
    if (!strings)
        return "null";
    char **sorted = malloc((strings->count + 1) * sizeof *sorted);
    memcpy(sorted, strings->data, strings->count * sizeof *sorted);
    qsort(sorted, strings->count, sizeof *sorted, by_text);
    int at = snprintf(text, TEXT_MAX, "[");
    for (int i = 0; i < strings->count && at < TEXT_MAX - 200; i++)
        at += snprintf(text + at, TEXT_MAX - at, "%s%s", i ? ", " : "", sorted[i]);
    snprintf(text + at, TEXT_MAX - at, "]");
    free(sorted);
    return text;
}

const char *acl_text(const struct ACL_vector *acl) {
    char *text = next_text();
    if (!acl)
        return "null";
    int at = snprintf(text, TEXT_MAX, "[");
    for (int i = 0; i < acl->count; i++)
        at += snprintf(text + at, TEXT_MAX - at, "%s%s:%s:%d", i ? ", " : "", acl->data[i].id.scheme, acl->data[i].id.id,
                       acl->data[i].perms);
    snprintf(text + at, TEXT_MAX - at, "]");
    return text;
}

__attribute__((format(printf, 2, 3))) static void tell(const void *data, const char *format, ...) {
    char text[TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&lock);
    snprintf(answer, sizeof answer, "%s: %.16000s", data ? (const char *)data : "completion", text);
    answers++;
    pthread_mutex_unlock(&lock);
}

void on_void(int rc, const void *data) { tell(data, "%d", rc); }
void on_stat(int rc, const struct Stat *stat, const void *data) { tell(data, "%d %s", rc, stat_text(rc ? NULL : stat)); }
void on_data(int rc, const char *value, int length, const struct Stat *stat, const void *data) {
    tell(data, "%d %s %s", rc, rc ? "" : data_text(value, length), stat_text(rc ? NULL : stat));
}
void on_strings(int rc, const struct String_vector *strings, const void *data) {
    tell(data, "%d %s", rc, strings_text(rc ? NULL : strings));
}
void on_strings_stat(int rc, const struct String_vector *strings, const struct Stat *stat, const void *data) {
    tell(data, "%d %s %s", rc, strings_text(rc ? NULL : strings), stat_text(rc ? NULL : stat));
}
void on_string(int rc, const char *value, const void *data) { tell(data, "%d %s", rc, rc ? "" : masked(value)); }
void on_string_stat(int rc, const char *value, const struct Stat *stat, const void *data) {
    tell(data, "%d %s %s", rc, rc ? "" : masked(value), stat_text(rc ? NULL : stat));
}
void on_acl(int rc, struct ACL_vector *acl, struct Stat *stat, const void *data) {
    tell(data, "%d %s %s", rc, acl_text(rc ? NULL : acl), stat_text(rc ? NULL : stat));
}

void answered(const char *function, int rc) {
    result(function, rc);
    if (rc != ZOK)
        return;
    int64_t end = now_ms() + PATIENCE_MS;
    int got = 0;
    while (!got && now_ms() < end) {
        pthread_mutex_lock(&lock);
        got = answers;
        if (got) {
            line("%s", answer);
            answers = 0;
        }
        pthread_mutex_unlock(&lock);
        if (!got)
            turn();
    }
    if (!got)
        line("no answer");
}
