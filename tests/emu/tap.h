/* SPDX-License-Identifier: MIT */
/* A main for tests that also run under ThreadSanitizer, which Criterion's processes do not survive: TAP, the first failure ends it. */
#ifndef SWD_TESTS_EMU_TAP_H
#define SWD_TESTS_EMU_TAP_H
#include "../files.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("Bail out! %s:%d: ", __FILE__, __LINE__);                                       \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define OK(call, err) CHECK((call) == SWD_OK, "%s: %s", #call, (err).message)

typedef struct tap_test {
    const char *name;
    void (*run)(void);
} tap_test;

/* All tests, or those with argv[1] in their names. */
static inline int tap_run(const tap_test *tests, int n, int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..%d\n", n);
    for (int i = 0; i < n; i++) {
        int wanted = argc < 2 || strstr(tests[i].name, argv[1]) != NULL;
        if (wanted) tests[i].run();
        printf("ok %d - %s%s\n", i + 1, tests[i].name, wanted ? "" : " # SKIP not asked for");
    }
    return 0;
}
#endif
