/* Between the signal handlers: answering a fault, telling of it, passing on those of others. */
#ifndef SHMPOOL_TOUCH_H
#define SHMPOOL_TOUCH_H

#include "place.h" /* first: Python.h says which system it wants */

#include <signal.h>

typedef enum { TOUCH_UNKNOWN = -1, TOUCH_READ = 0, TOUCH_WRITE = 1, SLAB_GONE = 2, CONTROL_GONE = 3 } TouchKind;

/* touch.c */
void touch_note(Region *region, const Cell *cell, const void *address, TouchKind kind);
void touches_ask(void);
void touches_forget(void);
bool touches_in_main_thread(void);

/* fence.c: is it ours? Then it is answered, and the instruction may be done again. */
bool fence_answer(int signal, const siginfo_t *info, const void *context);
void fence_spare_mappings(void);

#endif
