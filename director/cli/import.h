// SPDX-License-Identifier: Apache-2.0
// What `ipvsadm -S -n` prints, as services of a document.
#ifndef BRASS_CLI_IMPORT_H
#define BRASS_CLI_IMPORT_H

#include <jansson.h>
#include <stddef.h>

// Adds the services and destinations of text to services ({"tcp-10.0.0.1-80": {..., "backends": {...}}}). A line that
// cannot be taken changes nothing and is told with its number (from 1) and why. Services are named after what they are,
// backends after where they are; pulses are off, since the kernel's table has none. Returns the number of lines that
// were taken, or -ENOMEM.
int import_table(
	const char *text, json_t *services, void (*refused)(void *ctx, size_t line, const char *why), void *ctx);

#endif
