// SPDX-License-Identifier: Apache-2.0
// The members of a JSON object, one text after the other, so that a large document need not become one large tree of
// values: 100,000 backends take 8 MB as text and 110 MB as jansson's values. Floor 0.
//
// Only brackets, strings and commas are looked at here; what stands between them is for a real parser, which is also
// the one to say what is wrong with a text that this refuses.
#ifndef BRASS_SHARED_SLICES_H
#define BRASS_SHARED_SLICES_H

#include <stdbool.h>
#include <stddef.h>

struct slice {
	const char *text;
	size_t len;
};

struct slices {
	const char *at, *end;
	bool begun;
};

// text is an object whose only member is called key, and that is an object: *ret walks its members. False otherwise,
// also when brackets and strings do not fit together.
bool slices_open(const char *text, size_t len, const char *key, struct slices *ret);

// The next member: its key (with quotes, as it stands) and its value. False at the end.
bool slices_next(struct slices *slices, struct slice *ret_key, struct slice *ret_value);

#endif
