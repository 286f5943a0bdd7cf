/* Lets a process read clocks that are off by the seconds that a file holds: first the wall clock,
 * then all of them, as if the process had not run for so long.
 *
 * Preloaded, it stands before the C library's clock_gettime, and before what waits for a time that
 * was read there: the system must be told it by its own clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define A_WALL_CLOCK_SAYS 1000000000 /* and no machine runs for so long */

static int (*read_clock)(clockid_t, struct timespec *);
static int (*wait_semaphore)(sem_t *, clockid_t, const struct timespec *);
static int (*wait_condition)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static volatile long long *offsets;

__attribute__((constructor)) static void begin(void) {
    *(void **)&wait_semaphore = dlsym(RTLD_NEXT, "sem_clockwait");
    *(void **)&wait_condition = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!wait_condition) *(void **)&wait_condition = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    *(void **)&read_clock = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("SIGNALPOST_TEST_WALL_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *seen = mmap(0, 2 * sizeof *offsets, PROT_READ, MAP_SHARED, file, 0);
    if (seen != MAP_FAILED) offsets = seen;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!read_clock) begin();
    int failed = read_clock(clock, time);
    if (failed || !offsets) return failed;
    if (clock == CLOCK_REALTIME) time->tv_sec += offsets[0] + offsets[1];
    if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE) time->tv_sec += offsets[1];
    return failed;
}

static struct timespec for_the_system(const struct timespec *time) {
    struct timespec told = *time;
    if (offsets && told.tv_sec < A_WALL_CLOCK_SAYS) told.tv_sec -= offsets[1];
    return told;
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
    struct timespec told = for_the_system(until);
    return wait_semaphore(semaphore, clock, &told);
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                           const struct timespec *until) {
    struct timespec told = for_the_system(until);
    return wait_condition(condition, mutex, &told);
}
