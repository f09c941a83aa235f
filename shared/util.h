// SPDX-License-Identifier: Apache-2.0
// Small words that every file uses: scope-bound cleanup, array length. Floor 0.
#ifndef BRASS_SHARED_UTIL_H
#define BRASS_SHARED_UTIL_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

// `_cleanup_(f) T x = NULL;` calls f(&x) when x goes out of scope, on every way out.
#define _cleanup_(f) __attribute__((cleanup(f)))

// Makes the cleanup function `name##_cleanup` for a destructor that takes a pointer.
#define DEFINE_CLEANUP(type, destroy)                 \
	static inline void destroy##_cleanup(type *p) \
	{                                             \
		if (*p)                               \
			destroy(*p);                  \
	}

static inline void free_cleanup(void *p)
{
	free(*(void **)p);
}

static inline void close_cleanup(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void fclose_cleanup(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define _cleanup_free_ _cleanup_(free_cleanup)
#define _cleanup_close_ _cleanup_(close_cleanup)
#define _cleanup_fclose_ _cleanup_(fclose_cleanup)

// Hands a pointer on and forgets it, so that the cleanup attribute leaves it alone.
#define STEAL(p)                            \
	({                                  \
		__typeof__(p) steal_ = (p); \
		(p) = NULL;                 \
		steal_;                     \
	})

// qsort(3) that takes an empty list as it comes, without an array.
static inline void sort_items(void *items, size_t count, size_t size, int (*compare)(const void *a, const void *b))
{
	if (count)
		qsort(items, count, size, compare);
}

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
