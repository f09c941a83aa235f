// SPDX-License-Identifier: Apache-2.0
// The words of the command line that ask a running agent, or do without one. Floor 5.
#ifndef BRASS_AGENT_WORDS_H
#define BRASS_AGENT_WORDS_H

#include "agent/config.h"

#include <jansson.h>

// What a word works with.
struct words_call {
	const struct config *config; // of a word that needs none only run_dir is right
	const json_t *given;         // options that are no fields of the configuration
	const char *argument;        // NULL: none
};

// Each returns an exit code.
int words_status(const struct words_call *call);
int words_drain(const struct words_call *call);
int words_undrain(const struct words_call *call);
int words_restore(const struct words_call *call);

#endif
