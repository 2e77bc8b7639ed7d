/* Makes system calls fail under one directory, by rules in a file that a test may replace at any time.
 *
 * WEIR_FAULT_ROOT   the directory
 * WEIR_FAULT_RULES  the file: a rule on each line, `call path-part outcome times`
 * WEIR_FAULT_LOG    a line is added for each failure: `call path`
 *
 * Calls are write, sync, reserve, rename and create; outcomes EIO, ENOSPC and SHORT (half is written); times 0 is without
 * end. A rule counts its hits until the file is replaced.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define RULES_MAX 16
enum { FINE = 0, HALF = -1 };

struct rule { char call[16], part[64]; int outcome; long times, hits; };

static struct rule rules[RULES_MAX];
static int rule_count;
static ino_t rules_inode;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int inside;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

static void read_rules(void) {
    const char *path = getenv("WEIR_FAULT_RULES");
    struct stat now;
    if (!path || stat(path, &now) != 0) { rule_count = 0; rules_inode = 0; return; }
    if (now.st_ino == rules_inode) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    char outcome[16];
    rule_count = 0;
    while (rule_count < RULES_MAX) {
        struct rule *rule = &rules[rule_count];
        if (fscanf(file, "%15s %63s %15s %ld", rule->call, rule->part, outcome, &rule->times) != 4) break;
        rule->hits = 0;
        rule->outcome = !strcmp(outcome, "EIO") ? EIO : !strcmp(outcome, "ENOSPC") ? ENOSPC : HALF;
        rule_count++;
    }
    fclose(file);
    rules_inode = now.st_ino;
}

static void note(const char *call, const char *path) {
    const char *log = getenv("WEIR_FAULT_LOG");
    FILE *file = log ? fopen(log, "a") : NULL;
    if (!file) return;
    fprintf(file, "%s %s\n", call, path);
    fclose(file);
}

static int strike_path(const char *call, const char *path) {
    const char *root = getenv("WEIR_FAULT_ROOT");
    int outcome = FINE;
    if (inside || !root || strncmp(path, root, strlen(root)) != 0) return FINE;
    inside = 1;
    pthread_mutex_lock(&lock);
    read_rules();
    for (int i = 0; i < rule_count && outcome == FINE; i++) {
        struct rule *rule = &rules[i];
        if (strcmp(rule->call, call) || !strstr(path, rule->part)) continue;
        if (rule->times && rule->hits >= rule->times) continue;
        rule->hits++;
        outcome = rule->outcome;
        note(call, path);
    }
    pthread_mutex_unlock(&lock);
    inside = 0;
    return outcome;
}

static int strike(const char *call, int fd) {
    char link[64], path[PATH_MAX];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    int outcome = FINE;
    if (length > 0) { path[length] = 0; outcome = strike_path(call, path); }
    errno = saved;
    return outcome;
}

#define FAIL_IF_STRUCK(striking) { int failure = (striking); if (failure > 0) { errno = failure; return -1; } }

/* About half of a write. Past the page cache a system never writes a part of a block. */
static size_t half_of(int fd, size_t count) {
    size_t blocks = count / 4096;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_DIRECT)) return blocks > 1 ? blocks / 2 * 4096 : count;
    return count > 1 ? count / 2 : count;
}

#define ONE_BUFFER(name, offset_type) \
    ssize_t name(int fd, const void *buffer, size_t count, offset_type at) { \
        REAL(ssize_t, name, int, const void *, size_t, offset_type); \
        int outcome = strike("write", fd); \
        FAIL_IF_STRUCK(outcome) \
        return real(fd, buffer, outcome == HALF ? half_of(fd, count) : count, at); \
    }
ONE_BUFFER(pwrite, off_t)
ONE_BUFFER(pwrite64, off64_t)

/* Half of several buffers is half of the first. */
static int halve(int fd, const struct iovec *from, int count, struct iovec *to) {
    if (count < 1) return 0;
    *to = from[0];
    to->iov_len = half_of(fd, to->iov_len);
    return 1;
}

#define MANY_BUFFERS(name, offset_type) \
    ssize_t name(int fd, const struct iovec *buffers, int count, offset_type at) { \
        REAL(ssize_t, name, int, const struct iovec *, int, offset_type); \
        struct iovec half; \
        int outcome = strike("write", fd); \
        FAIL_IF_STRUCK(outcome) \
        if (outcome == HALF) return real(fd, &half, halve(fd, buffers, count, &half), at); \
        return real(fd, buffers, count, at); \
    }
MANY_BUFFERS(pwritev, off_t)
MANY_BUFFERS(pwritev64, off64_t)

ssize_t write(int fd, const void *buffer, size_t count) {
    REAL(ssize_t, write, int, const void *, size_t);
    int outcome = strike("write", fd);
    FAIL_IF_STRUCK(outcome)
    return real(fd, buffer, outcome == HALF ? half_of(fd, count) : count);
}

#define SYNC(name) \
    int name(int fd) { \
        REAL(int, name, int); \
        FAIL_IF_STRUCK(strike("sync", fd)) \
        return real(fd); \
    }
SYNC(fsync)
SYNC(fdatasync)

#define RESERVE(name, offset_type) \
    int name(int fd, int mode, offset_type from, offset_type length) { \
        REAL(int, name, int, int, offset_type, offset_type); \
        FAIL_IF_STRUCK(strike("reserve", fd)) \
        return real(fd, mode, from, length); \
    }
RESERVE(fallocate, off_t)
RESERVE(fallocate64, off64_t)

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    FAIL_IF_STRUCK(strike_path("rename", from))
    return real(from, to);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if (flags & O_CREAT) { FAIL_IF_STRUCK(strike_path("create", path)) } \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
