// Device memory, allocated in whole pages of a card of limited size, and pinned host memory.

#define _GNU_SOURCE
#include <sys/mman.h>

#include "pretended.h"

typedef struct Block {
    char* at;
    size_t bytes;
    struct Block* next;
} Block;
static Block *device, *pinned;

static uint64_t card_bytes = 80ull << 30, context_bytes = 500ull << 20, page_bytes = 2 << 20, taken, peak;

EXPORTED void pretended_card(uint64_t bytes, uint64_t context, uint64_t page) {
    lock();
    card_bytes = bytes;
    context_bytes = context;
    page_bytes = page;
    peak = taken;
    unlock();
}
EXPORTED uint64_t pretended_taken(void) { return taken; }
EXPORTED uint64_t pretended_peak(void) { return peak; }

void memory_info(size_t* unused, size_t* all) {
    *all = card_bytes;
    *unused = card_bytes > context_bytes + taken ? card_bytes - context_bytes - taken : 0;
}

static Block* find(Block* list, const void* at) {
    for (; list; list = list->next)
        if ((const char*)at >= list->at && (const char*)at < list->at + list->bytes) return list;
    return NULL;
}

static void insert(Block** list, void* at, size_t bytes) {
    Block* block = malloc(sizeof *block);
    *block = (Block){at, bytes, *list};
    *list = block;
}

static void erase(Block** list, Block* block) {
    while (*list != block) list = &(*list)->next;
    *list = block->next;
    free(block);
}

int is_device(const void* at) { return find(device, at) != NULL; }
int is_pinned(const void* at) { return find(pinned, at) != NULL; }

int allocate(void** at, size_t bytes) {
    const size_t rounded = (bytes + page_bytes - 1) / page_bytes * page_bytes;
    if (taken + rounded + context_bytes > card_bytes) return OUT_OF_MEMORY;
    *at = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*at == MAP_FAILED) abort();
    insert(&device, *at, rounded);
    taken += rounded;
    if (taken > peak) peak = taken;
    return SUCCESS;
}

int release(void* at) {
    Block* block = find(device, at);
    if (!block || block->at != at) return INVALID_VALUE;
    munmap(at, block->bytes);
    taken -= block->bytes;
    erase(&device, block);
    return SUCCESS;
}

void* allocate_pinned(size_t bytes) {
    void* at = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    insert(&pinned, at, bytes ? bytes : 1);
    return at;
}

void release_pinned(void* at) {
    Block* block = find(pinned, at);
    if (!block) return;
    erase(&pinned, block);
    free(at);
}
