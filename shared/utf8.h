// SPDX-License-Identifier: Apache-2.0
// UTF-8 (RFC 3629), for text that may not be it: what a real server said, or a sentence that was cut in the middle of a
// character. Floor 0.
#ifndef BRASS_SHARED_UTF8_H
#define BRASS_SHARED_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define UTF8_INVALID UINT32_MAX

// One character from at most len > 0 bytes; a zero byte is the last one that is looked at. Returns its length; what is
// invalid is one byte long.
size_t utf8_next(const char *text, size_t len, uint32_t *ret);

// Each byte that belongs to no character becomes a question mark.
void utf8_mend(char *text);

#endif
