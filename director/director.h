// SPDX-License-Identifier: Apache-2.0
// The daemon: everything in its order, one loop, everything back in the reverse order. Floor 5.
#ifndef BRASS_DIRECTOR_DIRECTOR_H
#define BRASS_DIRECTOR_DIRECTOR_H

#include "director/config.h"

// Runs until SIGTERM or SIGINT. Returns an exit code; errors have been logged.
int director_run(const struct config *config);

#endif
