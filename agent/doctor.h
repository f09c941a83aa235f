// SPDX-License-Identifier: Apache-2.0
// `brass-agent doctor`: reads everything that a service of this host depends on, changes nothing, and says what is
// wrong, by what evidence, and which command mends it. Needs no running agent. Floor 5.
//
// doctor_facts.h reads once; each check (a row of the table in doctor.c) looks at the facts and adds findings to the
// report. What could not be read is said as "not looked at", never as fine.
#ifndef BRASS_AGENT_DOCTOR_H
#define BRASS_AGENT_DOCTOR_H

#include "agent/words.h"

// Prints its findings. Exit code 0: all is fine; 1: there are warnings, or something could not be looked at; 2:
// something is wrong (or the words make no sense).
int doctor_word(const struct words_call *call);

#endif
