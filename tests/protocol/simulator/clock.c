/* Loaded into Redis before libc: its wall clock is the number of microseconds in a file that the simulator writes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *now_us;

__attribute__((constructor)) static void open_clock(void) {
    int file = open(getenv("SIMULATED_CLOCK"), O_RDONLY);
    now_us = mmap(NULL, sizeof *now_us, PROT_READ, MAP_SHARED, file, 0);
    if (now_us == MAP_FAILED)
        abort();
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    at->tv_sec = *now_us / 1000000;
    at->tv_usec = *now_us % 1000000;
    return 0;
}

time_t time(time_t *at) {
    time_t seconds = *now_us / 1000000;
    if (at)
        *at = seconds;
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return syscall(SYS_clock_gettime, clock, at);
    at->tv_sec = *now_us / 1000000;
    at->tv_nsec = *now_us % 1000000 * 1000;
    return 0;
}
