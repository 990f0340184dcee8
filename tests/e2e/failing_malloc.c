/* LD_PRELOAD: one allocation fails, told from outside through a file that is mapped before the sandbox closes.
 *
 * FAILING_MALLOC names a file of two 32-bit numbers: how many allocations may still succeed before one fails (0: none
 * fails), and how many have failed so far. Both sides change them atomically. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <errno.h>

struct order {
    atomic_int left;
    atomic_int failed;
};

static struct order* order;
static void* (*real_malloc)(size_t);

__attribute__((constructor)) static void start(void) {
    const char* path = getenv("FAILING_MALLOC");
    real_malloc = (void* (*)(size_t))dlsym(RTLD_NEXT, "malloc");
    if (path == NULL) return;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    void* map = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED) order = map;
}

void* malloc(size_t size) {
    if (real_malloc == NULL) start();
    if (order != NULL && atomic_load(&order->left) > 0 && atomic_fetch_sub(&order->left, 1) == 1) {
        atomic_fetch_add(&order->failed, 1);
        errno = ENOMEM;
        return NULL;
    }
    return real_malloc(size);
}
