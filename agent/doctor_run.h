// SPDX-License-Identifier: Apache-2.0
// Runs a program that only prints, without a shell, and keeps what it printed. Waits: only for one-shot commands.
// Floor 5.
#ifndef BRASS_AGENT_DOCTOR_RUN_H
#define BRASS_AGENT_DOCTOR_RUN_H

#include "shared/err.h"

#include <stddef.h>

#define DOCTOR_RUN_BYTES_MAX (16u << 20)
#define DOCTOR_RUN_MS_MAX 5000

// argv ends with NULL; the program is looked for in the usual places, whatever PATH says. *ret_text is zero-terminated
// and the caller's. -ENOENT: not installed; -ETIMEDOUT, -EMSGSIZE; -EIO: it failed, and err has its first words.
int doctor_run(const char *const argv[], char **ret_text, size_t *ret_len, struct err *err);

#endif
