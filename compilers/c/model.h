/* $title

$about

A context holds the weights, which are mapped, and the state of up to $rows sequences. It belongs to one thread at a time; any number of
contexts can be loaded from one file. Arrays are [rows][numbers], row after row. */
#ifndef ${guard}_H
#define ${guard}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef $real ${name}_real;
typedef struct $name $name;

/* A context for so many sequences, before the first step; NULL, and a line on stderr, if the file is not that of this model or there is no
   memory. */
$name *${name}_load(const char *weights, int rows);
void ${name}_free($name *model);

/* Go back to before the first step. */
void ${name}_start($name *model);
$declared
/* One step of every sequence. 0; -1 if a token is not one of its table (nothing has changed then), -2 if there is no memory$unread_said.
$shapes */
int ${name}_step($name *model, $arguments);

/* So many steps of every sequence, inputs [rows][steps][numbers]; the outputs are those of the last. */
int ${name}_prefill($name *model, int64_t steps, $arguments);

/* Bytes of the state as it is now. */
size_t ${name}_state_size(const $name *model);

/* Make the state of one context that of another, of the same rows. 0, or -2 if there is no memory. */
int ${name}_copy($name *to, const $name *from);

/* Remember the state, and go back to it: a draft that is not accepted. 0, or -2 if there is no memory. */
int ${name}_mark($name *model);
void ${name}_rollback($name *model);

#ifdef __cplusplus
}
#endif
#endif
