// SPDX-License-Identifier: Apache-2.0
// Text that grows, and JSON written straight into it: no tree is built and nothing is allocated per value. Floor 0.
//
// Commas, quotes and escapes are set here. When memory runs out the text is marked failed, later writes do nothing, and
// the caller looks once at the end. Reading JSON is jansson's business.
#ifndef BRASS_SHARED_OUT_H
#define BRASS_SHARED_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct out {
	char *text; // owned, zero-terminated once something was written
	size_t len, room;
	int depth;     // open objects and lists
	bool comma;    // the next value of this object or list needs one
	bool keyed;    // a key waits for its value
	bool indented; // for people: one field a line
	bool failed;   // out of memory
};

void out_free(struct out *out);
static inline void out_cleanup(struct out *out)
{
	out_free(out);
}
#define _cleanup_out_ _cleanup_(out_cleanup)

// Plain text, as it stands.
void out_bytes(struct out *out, const char *bytes, size_t len);
void out_text(struct out *out, const char *text);
void out_format(struct out *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void out_digits(struct out *out, uint64_t n);

// JSON. A value inside an object comes after its key.
void out_open(struct out *out, char bracket); // '{' or '['
void out_close(struct out *out, char bracket);
void out_key(struct out *out, const char *name);
void out_string(struct out *out, const char *text); // UTF-8; bytes that are not become U+FFFD
void out_int(struct out *out, int64_t n);
void out_uint(struct out *out, uint64_t n);
void out_real(struct out *out, double n);
void out_bool(struct out *out, bool value);
void out_raw(struct out *out, const char *json); // a value that is JSON already

// A place to come back to, when it turns out that what was begun shall not be written.
struct out_mark {
	size_t len;
	bool comma;
};
struct out_mark out_mark(const struct out *out);
void out_rewind(struct out *out, struct out_mark mark);

// Hands the text over (NULL when it failed) and starts anew. ret_len may be NULL.
char *out_steal(struct out *out, size_t *ret_len);

#endif
