/* Lets a call of the C library fail, for test/faults/calls.ts: LD_PRELOAD=shim.so.
 *
 * Calls are counted that name a path below $FAULT_UNDER, or are of a descriptor that leads there, standard input and
 * output among them; all threads count together. The $FAULT_AT-th of those in $FAULT_CALLS (names with commas around each, or
 * "all"), and with $FAULT_EVER all after it, do what $FAULT_HOW says: fail with that errno; "short": move half;
 * "kill": the process dies of SIGKILL before it; "killed": after it. $FAULT_LOG is a file to which each counted call
 * adds a line. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FDS 65536
#define SHORT -1
#define KILL -2
#define KILLED -3

static char ours[MOST_FDS];
static const char *under, *calls;
static long (*kernel)(long, ...);
static size_t under_length;
static long at = 0, counted = 0;
static int how = EIO, ever = 0, log_fd = -1;

static int is_ours(const char *path) { return under && path && !strncmp(path, under, under_length); }
static void fd_path(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = kernel(SYS_readlink, link, path, PATH_MAX - 1);
  path[n < 0 ? 0 : n] = 0;
}

__attribute__((constructor)) static void begin(void) {
  const char *text;
  kernel = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  under = getenv("FAULT_UNDER");
  under_length = under ? strlen(under) : 0;
  calls = getenv("FAULT_CALLS");
  if ((text = getenv("FAULT_AT"))) at = atol(text);
  if ((text = getenv("FAULT_HOW")))
    how = !strcmp(text, "short") ? SHORT : !strcmp(text, "kill") ? KILL : !strcmp(text, "killed") ? KILLED : atoi(text);
  ever = getenv("FAULT_EVER") != NULL;
  if ((text = getenv("FAULT_LOG")))
    log_fd = kernel(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  for (int fd = 0; fd < 2; fd++) {
    char path[PATH_MAX];
    fd_path(fd, path);
    ours[fd] = is_ours(path);
  }
}

static int is_our_fd(int fd) { return fd >= 0 && fd < MOST_FDS && ours[fd]; }

static void die(void) {
  kernel(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

/* What to do at a call that counts: 0 nothing, else an errno, SHORT or KILLED. */
static int fate(const char *name, const char *what) {
  char wanted[64];
  snprintf(wanted, sizeof wanted, ",%s,", name);
  if (!calls || (strcmp(calls, "all") && !strstr(calls, wanted))) return 0;
  long n = __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST);
  int due = at > 0 && (n == at || (ever && n > at));
  if (log_fd >= 0) {
    char line[PATH_MAX + 100];
    int length = snprintf(line, sizeof line, "%ld %s %s%s\n", n, name, what ? what : "", due ? " FAULT" : "");
    kernel(SYS_write, log_fd, line, length);
  }
  if (!due) return 0;
  if (how == KILL) die();
  return how;
}

static int fail(int error) {
  errno = error;
  return -1;
}

#define REAL(result, name, ...)                                 \
  static result (*real)(__VA_ARGS__);                           \
  if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int fd_fate(const char *name, int fd) {
  char path[PATH_MAX];
  if (!is_our_fd(fd)) return 0;
  fd_path(fd, path);
  return fate(name, path);
}

/* What moves bytes, all or some. */
#define TRANSFER(label, full, half)                 \
  int f = fd_fate(label, fd);                      \
  if (f > 0) return fail(f);                       \
  ssize_t done = f == SHORT ? (half) : (full);      \
  if (f == KILLED) die();                          \
  return done

ssize_t read(int fd, void *b, size_t n) {
  REAL(ssize_t, read, int, void *, size_t);
  TRANSFER("read", real(fd, b, n), real(fd, b, (n + 1) / 2));
}
ssize_t write(int fd, const void *b, size_t n) {
  REAL(ssize_t, write, int, const void *, size_t);
  TRANSFER("write", real(fd, b, n), real(fd, b, (n + 1) / 2));
}
#define POSITIONED(name, label, pointer, offset)                                        \
  ssize_t name(int fd, pointer b, size_t n, offset o) {                                 \
    REAL(ssize_t, name, int, pointer, size_t, offset);                                  \
    TRANSFER(label, real(fd, b, n, o), real(fd, b, (n + 1) / 2, o));                  \
  }
POSITIONED(pread, "read", void *, off_t)
POSITIONED(pread64, "read", void *, off64_t)
POSITIONED(pwrite, "write", const void *, off_t)
POSITIONED(pwrite64, "write", const void *, off64_t)

static struct iovec first_half(const struct iovec *v) {
  struct iovec half = {v->iov_base, (v->iov_len + 1) / 2};
  return half;
}
#define VECTORED(name, label)                                                           \
  ssize_t name(int fd, const struct iovec *v, int n) {                                  \
    REAL(ssize_t, name, int, const struct iovec *, int);                                \
    struct iovec half = first_half(v);                                                   \
    TRANSFER(label, real(fd, v, n), real(fd, &half, 1));                                 \
  }
VECTORED(readv, "read")
VECTORED(writev, "write")
#define PLACED(name, label, offset)                                                     \
  ssize_t name(int fd, const struct iovec *v, int n, offset o) {                        \
    REAL(ssize_t, name, int, const struct iovec *, int, offset);                        \
    struct iovec half = first_half(v);                                                   \
    TRANSFER(label, real(fd, v, n, o), real(fd, &half, 1, o));                           \
  }
PLACED(preadv, "read", off_t)
PLACED(preadv64, "read", off64_t)
PLACED(pwritev, "write", off_t)
PLACED(pwritev64, "write", off64_t)

#define OF_FD(name, label, parameters, ...)                 \
  int name parameters {                                     \
    static int (*real) parameters;                          \
    if (!real) real = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
    int f = fd_fate(label, fd);                             \
    if (f > 0) return fail(f);                              \
    int done = real(__VA_ARGS__);                           \
    if (f == KILLED) die();                                 \
    return done;                                            \
  }
OF_FD(fsync, "sync", (int fd), fd)
OF_FD(fdatasync, "sync", (int fd), fd)
OF_FD(ftruncate, "truncate", (int fd, off_t n), fd, n)
OF_FD(ftruncate64, "truncate", (int fd, off64_t n), fd, n)

/* What fails has closed the descriptor all the same, as Linux does. */
int close(int fd) {
  REAL(int, close, int);
  int f = fd_fate("close", fd);
  if (fd >= 0 && fd < MOST_FDS) ours[fd] = 0;
  int done = real(fd);
  if (f == KILLED) die();
  return f > 0 ? fail(f) : done;
}

static int open_any(const char *name, const char *path, int flags, mode_t mode) {
  int counts = is_ours(path);
  int f = counts ? fate(name, path) : 0;
  if (f > 0) return fail(f);
  int fd = kernel(SYS_openat, AT_FDCWD, path, flags, mode);
  if (fd >= 0 && fd < MOST_FDS) ours[fd] = counts;
  if (f == KILLED) die();
  return fd;
}
#define OPEN(name)                                          \
  int name(const char *path, int flags, ...) {              \
    va_list more;                                           \
    va_start(more, flags);                                  \
    mode_t mode = va_arg(more, mode_t);                     \
    va_end(more);                                           \
    return open_any("open", path, flags, mode);             \
  }
OPEN(open)
OPEN(open64)

#define OF_PATH(name, label, parameters, ...)               \
  int name parameters {                                     \
    static int (*real) parameters;                          \
    if (!real) real = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
    int f = is_ours(path) ? fate(label, path) : 0;          \
    if (f > 0) return fail(f);                              \
    int done = real(__VA_ARGS__);                           \
    if (f == KILLED) die();                                 \
    return done;                                            \
  }
OF_PATH(rename, "rename", (const char *path, const char *to), path, to)
OF_PATH(unlink, "unlink", (const char *path), path)
OF_PATH(mkdir, "mkdir", (const char *path, mode_t mode), path, mode)

static int stat_fate(int fd, const char *path) {
  if (path && *path) return is_ours(path) ? fate("stat", path) : 0;
  return fd_fate("stat", fd);
}
/* Node reaches statx and, for some descriptors, close by number. */
long syscall(long number, ...) {
  va_list more;
  long a[6];
  va_start(more, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(more, long);
  va_end(more);
  if (number == SYS_close) return close(a[0]);
  if (!kernel) kernel = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  int f = number == SYS_statx ? stat_fate(a[0], (const char *)a[1]) : 0;
  if (f > 0) return fail(f);
  long done = kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (f == KILLED) die();
  return done;
}
