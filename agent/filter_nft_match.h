// SPDX-License-Identifier: Apache-2.0
// What a match of nft's JSON asks of a packet (libnftables-json(5), EXPRESSIONS). Floor 2.
#ifndef BRASS_AGENT_FILTER_NFT_MATCH_H
#define BRASS_AGENT_FILTER_NFT_MATCH_H

#include "agent/filter.h"

#include <jansson.h>

// Adds "left op right" to the rule, with what it implies: tcp dport 80 is also protocol tcp. objects: everything that
// nft printed, for named sets; of: the rule as nft has it. What is not understood becomes FILTER_OTHER. 0 or -ENOMEM.
int filter_nft_match(const json_t *objects, struct filter_rule *rule, const json_t *left, const json_t *right,
	const char *op, const json_t *of);

// A string of an object, "" without it; and the one member of an object such as {"match": {...}}.
const char *filter_nft_word(const json_t *json, const char *key);
const char *filter_nft_only(const json_t *json, const json_t **ret_value);

#endif
