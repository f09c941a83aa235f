// SPDX-License-Identifier: Apache-2.0
// What agent.c and agent_*.c share. Floor 5.
#ifndef BRASS_AGENT_AGENT_INTERNAL_H
#define BRASS_AGENT_AGENT_INTERNAL_H

#include "agent/agent.h"
#include "agent/client.h"
#include "agent/control.h"
#include "agent/drain.h"
#include "agent/drain_control.h"
#include "agent/host.h"
#include "agent/load.h"
#include "agent/local.h"
#include "agent/monitor.h"
#include "agent/retire.h"
#include "agent/services.h"
#include "shared/notify.h"

// RUNNING -(signal)-> DRAINING -(no connections, or time over, or second signal)-> LEAVING -(all said)-> stopped
enum phase { PHASE_RUNNING, PHASE_DRAINING, PHASE_LEAVING };

struct agent {
	struct config *config; // owned
	const char *file;      // the configuration's
	const json_t *options; // laid over it
	uv_loop_t loop;
	struct http_client *http;
	struct host host;
	struct monitor *monitor;
	struct control *control;
	struct local *local;
	struct load *load; // NULL: no weight depends on it
	bool host_failed;  // the last look ended with an error
	struct client_list clients;
	char boot[PROTOCOL_BOOT_MAX + 1];
	struct inet_addr address;          // RIP; not set: not known yet
	const struct client *address_from; // whose connection showed it; NULL: configured, or of an earlier run
	bool address_by_route;             // or the default route did
	struct services services;
	enum phase phase;
	struct drain_control drains;
	struct retire retire;
	struct drain drain; // of the stop
	uv_timer_t drain_timer;
	uv_signal_t terminate, interrupt, hangup;
	size_t gone; // clients that have left
	bool host_is_open, drains_are_open;
	struct notify notify;
	char trouble[160]; // with the last reload, "": none
};

// Who looks at this agent sees it: those who watch, and the service manager.
void agent_show_changes(struct agent *a);
// The host is made like what is wanted now, and the directors hear what came of it.
void agent_look(struct agent *a);
// A connection to one more director; it says nothing before client_start.
int agent_new_client(
	struct agent *a, const struct config *config, struct http_client *http, const char *url, struct client **ret);
// The director has been left: its memory goes, and what only it wanted.
void agent_drop_client(struct agent *a, struct client *client);
bool agent_depends_on_load(const struct config *config);
int agent_new_load(struct agent *a, struct load **ret, struct err *err);

extern const struct control_word agent_control_words[]; // agent_control.c

// Takes the configuration over as a whole, or not at all: -errno with the reason. -- agent_reload.c
int agent_reload(struct agent *a, struct err *err);
// Something that a reload took away has been drained.
void agent_on_retired(void *ctx, const struct retire_item *item);
void agent_on_hangup(uv_signal_t *handle, int signal);

#endif
