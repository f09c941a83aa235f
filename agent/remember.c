// SPDX-License-Identifier: Apache-2.0
#include "agent/remember.h"

#include "agent/journal.h"
#include "shared/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 512

static const char *path_of(const char *run_dir, char buf[PATH_SIZE])
{
	snprintf(buf, PATH_SIZE, "%s/state.json", run_dir);
	return buf;
}

void remember_save(const char *run_dir, const struct inet_addr *address, const struct client_list *clients)
{
	char path[PATH_SIZE], text[INET_ADDR_MAX];
	struct err err = { 0 };
	json_t *directors = json_object();
	json_t *json = json_pack("{s:s, s:o}", "address", inet_addr_format(address, text), "directors", directors);

	for (size_t i = 0; i < clients->count; i++) {
		const struct client *client = clients->items[i];
		char peer[INET_ADDR_MAX];

		if (!client->has_answer || client->retiring)
			continue;
		json_object_set_new(directors, client->url,
			json_pack("{s:s, s:o}", "peer", inet_addr_format(&client->peer, peer), "answer",
				protocol_answer_to_json(&client->answer)));
	}
	if (!json || journal_write_file(path_of(run_dir, path), json, &err))
		log_warning("%s; a start while all directors are away will not know the VIPs", err.text);
	json_decref(json);
}

static void load_director(const json_t *entry, struct client *client)
{
	const char *peer = json_string_value(json_object_get(entry, "peer"));
	const json_t *answer = json_object_get(entry, "answer");

	if (!answer || protocol_answer_from_json(answer, &client->answer, NULL))
		return;
	client->has_answer = true;
	if (peer)
		inet_addr_parse(peer, &client->peer);
	log_info("director %s: starting with what it said last, until it answers", client->url);
}

void remember_load(const char *run_dir, struct inet_addr *address, const struct client_list *clients)
{
	char path[PATH_SIZE];
	json_t *json = json_load_file(path_of(run_dir, path), 0, NULL);
	const char *text = json_string_value(json_object_get(json, "address"));

	if (text && !inet_addr_is_set(address))
		inet_addr_parse(text, address);
	for (size_t i = 0; i < clients->count; i++)
		load_director(
			json_object_get(json_object_get(json, "directors"), clients->items[i]->url), clients->items[i]);
	json_decref(json);
}

void remember_forget(const char *run_dir)
{
	char path[PATH_SIZE];

	unlink(path_of(run_dir, path));
}
