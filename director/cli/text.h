// SPDX-License-Identifier: Apache-2.0
// Text that came from the network, made fit for a terminal.
//
// What a director answers may hold names and reasons that somebody else chose. Characters that a terminal acts upon
// instead of showing (control characters, changes of writing direction) are never printed, nor is invalid UTF-8.
#ifndef BRASS_CLI_TEXT_H
#define BRASS_CLI_TEXT_H

#include "shared/util.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// A copy in which each character that must not be printed is a question mark. NULL without memory. The caller frees it.
char *text_clean(const char *text);

// Characters of a valid UTF-8 text; the same as columns for the scripts that names are written in.
size_t text_width(const char *text);

// Prints a JSON document as it is, but for characters that must not be printed: they can only stand in strings and
// become \uXXXX there, which is the same JSON. The document must be valid. Ends with a line feed.
void text_write_json(FILE *out, const char *json, size_t len);

// "999", "1.2K", "3.4M": powers of 1000. Returns buf.
#define TEXT_AMOUNT_MAX 24
const char *text_amount(uint64_t n, char buf[TEXT_AMOUNT_MAX]);

#endif
