// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share. A target feeds outside bytes to one parser and checks what must hold of whatever it
// takes; it must neither crash, leak, nor hang. Run by scripts/fuzz.
#ifndef BRASS_TESTS_FUZZ_H
#define BRASS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Unlike assert it stays in every build.
#define MUST(condition)                                                                                \
	do {                                                                                           \
		if (!(condition)) {                                                                    \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                       \
		}                                                                                      \
	} while (0)

#endif
