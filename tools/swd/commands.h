/* SPDX-License-Identifier: MIT */
/* One function per subcommand: takes parsed options, returns the exit status. */
#ifndef TOOLS_SWD_COMMANDS_H
#define TOOLS_SWD_COMMANDS_H
#include "options.h"
#include <jansson.h>
#include <stdio.h>

int command_generate(options *o);
int command_tokenize(options *o);
int command_encode(options *o);
int command_decode(options *o);
int command_info(options *o);
int command_presets(options *o);
int command_spectrum(options *o);
int command_eval(options *o);
int command_bench(options *o);
/* Its options are the keys of swd/train.h, so it parses them itself. */
int command_train(int argc, char **argv);
void train_help(void);

void help_print(const char *command); /* NULL: of the program */

/* Prompts of a file (- is stdin): one a line, verbatim; an empty line is the empty prompt. */
typedef struct prompt_list {
    char **items;
    int n;
    char *text;
} prompt_list;
/* Prints an error and returns false on failure; free it either way. */
bool prompts_read(prompt_list *out, const char *path);
void prompts_free(prompt_list *p);
/* The whole of f into *text (NULL before), ended by 0, to be freed either way; false: errno says why. */
bool read_all(char **text, size_t *n, FILE *f);

/* Prints and releases it, in one line if compact. */
int json_print(json_t *j, bool compact);
#endif
