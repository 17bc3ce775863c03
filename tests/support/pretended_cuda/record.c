// Counts of calls and bytes, a log of calls, and violations.

#define _GNU_SOURCE
#include <pthread.h>

#include "pretended.h"

static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
void lock(void) { pthread_mutex_lock(&mutex); }
void unlock(void) { pthread_mutex_unlock(&mutex); }

uint64_t this_thread(void) { return (uint64_t)pthread_self(); }

#define MOST_COUNTS 2048
typedef struct {
    char name[192];
    uint64_t calls, bytes;
} Count;
static Count counts[MOST_COUNTS];
static int distinct;

void count(const char* name, uint64_t bytes) {
    lock();
    int i = 0;
    while (i < distinct && strcmp(counts[i].name, name)) i++;
    if (i == distinct) {
        if (distinct == MOST_COUNTS) abort();
        snprintf(counts[distinct++].name, sizeof counts->name, "%s", name);
    }
    counts[i].calls++;
    counts[i].bytes += bytes;
    unlock();
}

EXPORTED void pretended_forget_counts(void) {
    lock();
    memset(counts, 0, sizeof counts);
    distinct = 0;
    unlock();
}
EXPORTED int pretended_distinct(void) { return distinct; }
EXPORTED const char* pretended_name(int i) { return counts[i].name; }
EXPORTED uint64_t pretended_calls(int i) { return counts[i].calls; }
EXPORTED uint64_t pretended_bytes(int i) { return counts[i].bytes; }

// Growing texts: the log, while it is on, and the violations.
typedef struct {
    char* text;
    size_t length, room;
} Text;
static Text log_text, violations;
static int logging;

static void append(Text* to, const char* format, va_list values) {
    if (to->length + 512 > to->room) {
        to->room = 2 * to->room + 4096;
        to->text = realloc(to->text, to->room);
    }
    to->length += (size_t)vsnprintf(to->text + to->length, 500, format, values);
    to->text[to->length++] = '\n';
    to->text[to->length] = 0;
}

void note(const char* format, ...) {
    if (!logging) return;
    lock();
    va_list values;
    va_start(values, format);
    append(&log_text, format, values);
    va_end(values);
    unlock();
}

void violation(const char* format, ...) {
    lock();
    va_list values;
    va_start(values, format);
    append(&violations, format, values);
    va_end(values);
    unlock();
}

// The last violation, for error messages.
const char* last_violation(void) {
    if (!violations.length) return "an error of the simulated runtime";
    violations.text[violations.length - 1] = 0;  // its line ends there
    const char* line = strrchr(violations.text, '\n');
    violations.text[violations.length - 1] = '\n';
    return line ? line + 1 : violations.text;
}

EXPORTED void pretended_log(int on) {
    lock();
    logging = on;
    log_text.length = 0;
    if (log_text.text) log_text.text[0] = 0;
    unlock();
}
EXPORTED const char* pretended_logged(void) { return log_text.text ? log_text.text : ""; }
EXPORTED const char* pretended_violations(void) { return violations.length ? violations.text : ""; }
EXPORTED void pretended_forgive(void) { violations.length = 0; }
