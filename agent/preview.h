// SPDX-License-Identifier: Apache-2.0
// What the agent would do on this host now, as commands that a person could type: `brass-agent plan`. Floor 5.
//
// It asks the directors what the services are (GET, so that they do not hear of this host), and takes what they said an
// earlier run where they do not answer within 3 s. Nothing is changed, on the host or on disk, and no agent needs to
// run. Lines begin with + (made), - (taken away), ! (cannot be done, and why) and # (said about the rest).
#ifndef BRASS_AGENT_PREVIEW_H
#define BRASS_AGENT_PREVIEW_H

#include "agent/words.h"

// Exit code: 1 when something cannot be done or is not known.
int preview_word(const struct words_call *call);

#endif
