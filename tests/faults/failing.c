/* Makes the system say no. Compiled and preloaded by test_failing_calls.py.
 *
 *   failing_arm("mmap", 3, 12)   the third mmap from now on fails with errno 12, once
 *   failing_hits()               how often it has been called since; disarms
 *
 * Only calls of the process that has armed it count, from any of its threads.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static char armed[32];
static atomic_int calls, failing, number;
static pid_t owner;

void failing_arm(const char *name, int call, int error);
int failing_hits(void);

void failing_arm(const char *name, int call, int error)
{
    strncpy(armed, name, sizeof armed - 1);
    owner = getpid();
    number = error;
    calls = 0;
    failing = call;
}

int failing_hits(void)
{
    armed[0] = '\0';
    return calls;
}

/* The errno that this call is to fail with, 0 if it is to go on. */
static int refused(const char *name)
{
    if (strcmp(armed, name) != 0 || getpid() != owner)
        return 0;
    return atomic_fetch_add(&calls, 1) + 1 == failing ? number : 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_IF_REFUSED(name, value)                                                               \
    do {                                                                                           \
        int error = refused(name);                                                                 \
        if (error) {                                                                               \
            errno = error;                                                                         \
            return value;                                                                          \
        }                                                                                          \
    } while (0)

int posix_fallocate(int fd, off_t offset, off_t length)
{
    int error = refused("posix_fallocate");
    return error ? error : REAL(posix_fallocate)(fd, offset, length);
}

int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
    int error = refused("posix_fallocate");
    return error ? error : REAL(posix_fallocate64)(fd, offset, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    FAIL_IF_REFUSED("fallocate", -1);
    return REAL(fallocate)(fd, mode, offset, length);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
    FAIL_IF_REFUSED("fallocate", -1);
    return REAL(fallocate64)(fd, mode, offset, length);
}

/* The memory of shared files, that is: malloc's own is another matter. */
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (fd >= 0)
        FAIL_IF_REFUSED("mmap", MAP_FAILED);
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
    return mmap(address, length, protection, flags, fd, offset);
}

int shm_open(const char *name, int flags, mode_t mode)
{
    FAIL_IF_REFUSED("shm_open", -1);
    return REAL(shm_open)(name, flags, mode);
}

sem_t *sem_open(const char *name, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    unsigned int value = va_arg(rest, unsigned int);
    va_end(rest);
    FAIL_IF_REFUSED("sem_open", SEM_FAILED);
    return REAL(sem_open)(name, flags, mode, value);
}

static int any_open(const char *path, int flags, mode_t mode)
{
    FAIL_IF_REFUSED("open", -1);
    return openat(AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return any_open(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return any_open(path, flags, mode);
}

int ftruncate(int fd, off_t length)
{
    FAIL_IF_REFUSED("ftruncate", -1);
    return REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    FAIL_IF_REFUSED("ftruncate", -1);
    return REAL(ftruncate64)(fd, length);
}

pid_t fork(void)
{
    FAIL_IF_REFUSED("fork", -1);
    return REAL(fork)();
}

pid_t vfork(void)
{
    /* Our frame would be the child's to return from. */
    return fork();
}

int eventfd(unsigned int count, int flags)
{
    FAIL_IF_REFUSED("eventfd", -1);
    return REAL(eventfd)(count, flags);
}

int pipe(int ends[2])
{
    FAIL_IF_REFUSED("pipe", -1);
    return REAL(pipe)(ends);
}

int pipe2(int ends[2], int flags)
{
    FAIL_IF_REFUSED("pipe", -1);
    return REAL(pipe2)(ends, flags);
}

int socketpair(int domain, int type, int protocol, int ends[2])
{
    FAIL_IF_REFUSED("socketpair", -1);
    return REAL(socketpair)(domain, type, protocol, ends);
}

static int any_fcntl(int fd, int command, void *argument)
{
    if (command == F_DUPFD_CLOEXEC || command == F_DUPFD)
        FAIL_IF_REFUSED("fcntl", -1);
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

int fcntl(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return any_fcntl(fd, command, argument);
}

int fcntl64(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return any_fcntl(fd, command, argument);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument)
{
    int error = refused("pthread_create");
    return error ? error : REAL(pthread_create)(thread, attributes, body, argument);
}

/* CPython calls pidfd_open so. The real one cannot be called with its own arguments: what
 * there may be of them is passed on, as glibc's syscall() does. */
long syscall(long what, ...)
{
    va_list rest;
    va_start(rest, what);
    long a[6];
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    if (what == SYS_pidfd_open)
        FAIL_IF_REFUSED("pidfd_open", -1);
    return ((long (*)(long, ...))dlsym(RTLD_NEXT, "syscall"))(what, a[0], a[1], a[2], a[3], a[4], a[5]);
}
