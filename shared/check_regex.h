// SPDX-License-Identifier: Apache-2.0
// Regular expressions that are looked for in answers of real servers. Floor 3.
//
// They are Perl's, by PCRE2. The loop waits meanwhile, so a search that takes longer than CHECK_REGEX_MS is given up:
// neither an expression nor an answer can hold it up. (The C library's own cannot be ended: "a.*b" in 64 KiB takes it
// seconds, and some expressions hundreds of megabytes.)
#ifndef BRASS_SHARED_CHECK_REGEX_H
#define BRASS_SHARED_CHECK_REGEX_H

#include "shared/err.h"

#include <stddef.h>

#define CHECK_REGEX_MS 10

// Is it an expression? 0 or -EINVAL, with words.
int check_regex_valid(const char *pattern, struct err *err);
// 1: it is in the text; 0: it is not; -ETIME: that would take too long; or -errno.
int check_regex_find(const char *pattern, const char *text, size_t len);

#endif
