// SPDX-License-Identifier: Apache-2.0
// Reports of agents and answers of directors: what is taken is written and read as the same.
#include "shared/protocol.h"
#include "tests/fuzz/fuzz.h"

static void report(const json_t *json)
{
	struct protocol_report first, second;
	struct err err = { 0 };

	if (protocol_report_from_json(json, &first, &err)) {
		MUST(*err.text);
		return;
	}
	json_t *written = protocol_report_to_json(&first), *again = NULL;

	MUST(written && protocol_report_from_json(written, &second, &err) == 0);
	again = protocol_report_to_json(&second);
	MUST(json_equal(written, again));
	json_decref(written);
	json_decref(again);
	protocol_report_clear(&first);
	protocol_report_clear(&second);
}

static void answer(const json_t *json)
{
	struct protocol_answer first, second;
	struct err err = { 0 };

	if (protocol_answer_from_json(json, &first, &err)) {
		MUST(*err.text);
		return;
	}
	json_t *written = protocol_answer_to_json(&first), *again = NULL;

	MUST(written);
	if (protocol_answer_from_json(written, &second, &err) == 0) { // it may have less than a director says
		again = protocol_answer_to_json(&second);
		MUST(json_equal(written, again));
		protocol_answer_clear(&second);
	}
	json_decref(written);
	json_decref(again);
	protocol_answer_clear(&first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *json = json_loadb((const char *)data, size, 0, NULL);

	if (json) {
		report(json);
		answer(json);
	}
	json_decref(json);
	return 0;
}
