// SPDX-License-Identifier: Apache-2.0
// The daemon: everything in its order, one loop, everything back in the reverse order. Floor 5.
#ifndef BRASS_DIRECTOR_DIRECTOR_H
#define BRASS_DIRECTOR_DIRECTOR_H

#include "director/config.h"

// Runs until SIGTERM or SIGINT. On SIGHUP the file at path (NULL: none) is read again, with the options laid over it:
// what can be changed while running is taken over, the rest is named; a mistake leaves all as it was. config is taken
// over. Returns an exit code; errors have been logged.
int director_run(struct config *config, const char *path, const json_t *options);

// Saves what can be read of a damaged store, and says what became of it. Returns an exit code.
int director_recover(const struct config *config);

#endif
