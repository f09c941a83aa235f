// SPDX-License-Identifier: Apache-2.0
// One look compares what runs with what is wanted, role by role, and does the step that sync_plan names. It happens
// when something is asked for, every two seconds, and at every event about an interface.
#include "director/sync.h"

#include "shared/log.h"
#include "shared/loop.h"
#include "shared/netsock.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/rtnetlink.h>
#include <string.h>

#define PACKET 1500u // bytes: what is not set fits into this
#define PAYLOAD_MAX 65507u
#define BACKUP_LENGTH_MIN 1024u
#define GONE UINT_MAX // no index: the interface of a running daemon is gone

// --- fields ---

static bool is_multicast(const struct inet_addr *addr)
{
	return addr->family == AF_INET ? addr->bytes[0] >> 4 == 0xe : addr->bytes[0] == 0xff;
}

static int parse_group(const json_t *json, void *member, struct err *err)
{
	const char *text = json_string_value(json);
	struct inet_addr addr;

	if (!text || inet_addr_parse(text, &addr) || !is_multicast(&addr))
		return err_set(err, -EINVAL, NULL,
			"found %.64s, allowed is an IPv4 or IPv6 multicast address, such as 224.0.0.81 or ff02::81",
			text ? text : field_json_kind(json));
	*(struct inet_addr *)member = addr;
	return 0;
}

static bool print_group(const void *member, struct out *out)
{
	char buf[INET_ADDR_MAX];

	out_string(out, inet_addr_format(member, buf));
	return true;
}

#define ROW(member) .offset = offsetof(struct sync_role, member), .size = sizeof(((struct sync_role *)NULL)->member)

static const struct field role_rows[] = {
	{ "interface", FIELD_NAME, ROW(interface), .required = true,
		.help = "device that the messages leave and come in by" },
	{ "id", FIELD_UINT, ROW(id), .max = 255, .def = "0",
		.help = "a backup takes messages of its own id only; 0: of any" },
	{ "group", FIELD_CUSTOM, ROW(group), .parse = parse_group, .print = print_group, .def = "\"224.0.0.81\"",
		.help = "multicast address, IPv4 or IPv6" },
	{ "port", FIELD_UINT, ROW(port), .min = 1, .max = 65535, .def = "8848",
		.help = "UDP port, the first of sync_ports" },
	{ "ttl", FIELD_UINT, ROW(ttl), .min = 1, .max = 255, .def = "1",
		.help = "routers that a message may pass, plus 1" },
	{ "max_length", FIELD_UINT, ROW(max_length), .min = 1, .max = PAYLOAD_MAX, .unit = "bytes",
		.help = "longest message; 1472 (IPv6: 1452) when not given; a backup's is at least 1024" },
};

const struct field_table sync_role_fields = {
	.what = "sync daemon",
	.rows = role_rows,
	.count = ARRAY_SIZE(role_rows),
	.size = sizeof(struct sync_role),
	.set_offset = offsetof(struct sync_role, set),
};

#define ROLE(role) .offset = offsetof(struct sync_wanted, roles[role]), .size = sizeof(struct sync_role)

static const struct field rows[] = {
	[IPVS_MASTER] = { "master", FIELD_OBJECT, ROLE(IPVS_MASTER), .sub = &sync_role_fields,
		.help = "tells this director's connections to the others" },
	[IPVS_BACKUP] = { "backup", FIELD_OBJECT, ROLE(IPVS_BACKUP), .sub = &sync_role_fields,
		.help = "takes the connections of the others" },
};
static_assert(ARRAY_SIZE(rows) == IPVS_ROLES, "a row for every role: its bit is the role's");

const struct field_table sync_fields = {
	.what = "set of sync daemons",
	.rows = rows,
	.count = ARRAY_SIZE(rows),
	.size = sizeof(struct sync_wanted),
	.set_offset = offsetof(struct sync_wanted, set),
};

static bool wants(const struct sync_wanted *wanted, enum ipvs_role role)
{
	return wanted->set >> role & 1;
}

static int check_role(struct sync_role *role, enum ipvs_role which, struct err *err)
{
	const uint32_t headers = role->group.family == AF_INET6 ? 48 : 28; // IP and UDP
	const uint32_t least = which == IPVS_BACKUP ? BACKUP_LENGTH_MIN : 1, most = 65535 - headers;

	if (!field_is_set(&sync_role_fields, role, "max_length"))
		role->max_length = PACKET - headers;
	if (role->max_length < least || role->max_length > most)
		return err_set(err, -EINVAL, "max_length",
			"found %u, allowed is a whole number from %u to %u for a %s with a group of IPv%d",
			role->max_length, least, most, rows[which].name, role->group.family == AF_INET6 ? 6 : 4);
	return 0;
}

int sync_check(struct sync_wanted *wanted, struct err *err)
{
	for (int i = 0; i < IPVS_ROLES; i++) {
		int rc = wants(wanted, (enum ipvs_role)i) ? check_role(&wanted->roles[i], (enum ipvs_role)i, err) : 0;

		if (!rc)
			continue;
		err_prefix(err, rows[i].name);
		return rc;
	}
	return 0;
}

// --- comparing ---

static void as_daemon(const struct sync_role *role, struct ipvs_daemon *ret)
{
	*ret = (struct ipvs_daemon) {
		.id = role->id,
		.group = role->group,
		.port = role->port,
		.ttl = (uint8_t)role->ttl,
		.max_length = (uint16_t)role->max_length,
	};
	memcpy(ret->interface, role->interface, sizeof(ret->interface));
}

bool sync_differs(const struct sync_role *want, const struct ipvs_daemon *running, char *buf, size_t size)
{
	struct ipvs_daemon d;
	size_t n = 0;

	as_daemon(want, &d);
	const struct {
		const char *name;
		bool differs;
	} parts[] = {
		{ "interface", strcmp(d.interface, running->interface) != 0 },
		{ "id", d.id != running->id },
		{ "group", inet_addr_cmp(&d.group, &running->group) != 0 },
		{ "port", d.port != running->port },
		{ "ttl", d.ttl != running->ttl },
		{ "max_length", d.max_length != running->max_length },
	};
	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		int m = parts[i].differs ? snprintf(buf + n, size - n, "%s%s", n ? ", " : "", parts[i].name) : 0;

		if (m > 0 && (size_t)m < size - n)
			n += (size_t)m;
	}
	return n;
}

enum sync_step sync_plan(const struct sync_wanted *wanted, const struct ipvs_daemons *running, enum ipvs_role role,
	unsigned int had_index, unsigned int index)
{
	char names[80];

	if (!wants(wanted, role))
		return running->running[role] ? SYNC_STOP : SYNC_LEAVE;
	if (!running->running[role])
		return index ? SYNC_START : SYNC_LEAVE;
	// without the interface nothing is gained by stopping what runs
	if (!index)
		return SYNC_LEAVE;
	if (sync_differs(&wanted->roles[role], &running->daemons[role], names, sizeof(names)))
		return SYNC_RESTART;
	return had_index && had_index != index ? SYNC_RESTART : SYNC_LEAVE;
}

// --- the kernel ---

struct sync {
	struct ipvs_control *control;
	struct sync_wanted wanted;
	struct role_state {
		unsigned int index; // of the interface, when the daemon was started or adopted; 0: it was not
		bool running;
		bool was_running;           // with what is wanted now: if it is gone, somebody stopped it
		char problem[ERR_TEXT_MAX]; // logged already
	} states[IPVS_ROLES];
	bool blind; // the kernel could not be asked; logged already
	struct netsock *events;
	uv_poll_t readable;
	uv_timer_t timer;
	int handles; // that are still to be closed
};

static int refused(const char *interface, int rc, struct err *err)
{
	if (rc == -EINVAL)
		return err_set(err, -EEXIST, "sync",
			"the kernel has no sync daemon beside backends of another address family than their service's: "
			"remove those backends, or do without the daemon");
	if (rc == -ENODEV)
		return err_set(err, rc, NULL, "there is no interface %s", interface);
	if (rc == -EAFNOSUPPORT)
		return err_set(err, rc, NULL, "this kernel has no IPVS over IPv6: use an IPv4 group");
	if (rc == -ENETUNREACH || rc == -EADDRNOTAVAIL)
		return err_set(err, rc, NULL,
			"interface %s has no route to the group: is it up, and has it an address? (%s)", interface,
			strerror(-rc));
	return rc;
}

static int start(struct sync *sync, enum ipvs_role role, unsigned int index, struct err *err)
{
	struct ipvs_daemon daemon;
	struct role_state *state = &sync->states[role];

	as_daemon(&sync->wanted.roles[role], &daemon);
	int rc = ipvs_control_start(sync->control, role, &daemon, err);
	if (rc)
		return refused(daemon.interface, rc, err);
	state->index = index;
	state->running = true;
	log_info("sync: %s daemon started on %s, id %u", rows[role].name, daemon.interface, daemon.id);
	return 0;
}

static int stop(struct sync *sync, enum ipvs_role role, struct err *err)
{
	int rc = ipvs_control_stop(sync->control, role, err);

	if (rc && rc != -ESRCH)
		return rc;
	sync->states[role].running = false;
	sync->states[role].index = 0;
	return 0;
}

// What somebody else or a new interface made necessary, in one line.
static void tell_repair(
	const struct sync *sync, enum ipvs_role role, enum sync_step step, const struct ipvs_daemons *running)
{
	const struct sync_role *want = &sync->wanted.roles[role];
	char names[80];

	if (!sync->states[role].was_running)
		return;
	if (step == SYNC_START)
		log_warning("sync: the %s daemon on %s was gone, starting it again", rows[role].name, want->interface);
	else if (sync_differs(want, &running->daemons[role], names, sizeof(names)))
		log_warning("sync: the %s daemon on %s differed in %s, starting it again", rows[role].name,
			want->interface, names);
	else
		log_warning("sync: interface %s is another one now, starting the %s daemon again", want->interface,
			rows[role].name);
}

static int do_step(struct sync *sync, enum ipvs_role role, const struct ipvs_daemons *running, struct err *err)
{
	struct role_state *state = &sync->states[role];
	const struct sync_role *want = &sync->wanted.roles[role];
	const unsigned int index = wants(&sync->wanted, role) ? if_nametoindex(want->interface) : 0;
	const enum sync_step step = sync_plan(&sync->wanted, running, role, state->index, index);
	int rc = 0;

	state->running = running->running[role];
	switch (step) {
	case SYNC_LEAVE:
		if (wants(&sync->wanted, role) && !index) {
			// what runs holds on to an interface that is gone: whatever comes back is another one
			state->index = state->running ? GONE : 0;
			state->running = false;
			return err_set(err, -ENODEV, NULL, "there is no interface %s", want->interface);
		}
		if (state->running && !state->index) {
			state->index = index;
			log_info("sync: %s daemon runs already on %s, id %u", rows[role].name, want->interface,
				want->id);
		}
		return 0;
	case SYNC_STOP:
		rc = stop(sync, role, err);
		if (!rc)
			log_info("sync: %s daemon stopped", rows[role].name);
		return rc;
	case SYNC_RESTART:
		tell_repair(sync, role, step, running);
		rc = stop(sync, role, err);
		return rc ? rc : start(sync, role, index, err);
	case SYNC_START:
		tell_repair(sync, role, step, running);
		return start(sync, role, index, err);
	}
	return 0;
}

// Keeps the reason why a daemon does not run, and says it once.
static void note(struct sync *sync, enum ipvs_role role, int rc, const struct err *why)
{
	struct role_state *state = &sync->states[role];

	if (rc && strcmp(state->problem, why->text) != 0)
		log_warning("sync: the %s daemon does not run: %s; it starts when it can", rows[role].name, why->text);
	snprintf(state->problem, sizeof(state->problem), "%s", rc ? why->text : "");
	state->was_running = !rc && wants(&sync->wanted, role);
}

// watch: roles that are not wanted are nobody's business any more. Returns the first -EEXIST.
static int look(struct sync *sync, bool watch, struct err *err)
{
	struct ipvs_daemons running;
	struct err why = { 0 };
	int rc = ipvs_control_daemons(sync->control, &running, &why), refusal = 0;

	if (rc && !sync->blind)
		log_error("sync: the kernel does not tell which daemons run: %s", why.text);
	sync->blind = rc != 0;
	if (rc) {
		if (err)
			*err = why;
		return rc;
	}
	for (int i = 0; i < IPVS_ROLES; i++) {
		if (watch && !wants(&sync->wanted, (enum ipvs_role)i))
			continue;
		why = (struct err) { 0 };
		rc = do_step(sync, (enum ipvs_role)i, &running, &why);
		note(sync, (enum ipvs_role)i, rc, &why);
		if (rc != -EEXIST || refusal)
			continue;
		refusal = rc;
		if (err)
			*err = why;
	}
	return refusal;
}

static void on_timer(uv_timer_t *timer)
{
	look(timer->data, true, NULL);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct sync *sync = poll->data;

	(void)events;
	loop_poll_on(poll, status, on_readable);
	netsock_receive(sync->events, NULL, NULL); // whatever it was, and also when some were lost
	if (sync_is_wanted(sync))
		look(sync, true, NULL);
}

int sync_new(uv_loop_t *loop, struct ipvs_control *control, struct sync **ret, struct err *err)
{
	static const int groups[] = { RTNLGRP_LINK, 0 };
	struct sync *sync = calloc(1, sizeof(*sync));
	int rc = sync ? netsock_subscribe(NETLINK_ROUTE, groups, &sync->events, err)
		      : err_set(err, -ENOMEM, NULL, "out of memory");

	if (rc) {
		free(sync);
		return rc;
	}
	sync->control = control;
	uv_timer_init(loop, &sync->timer);
	uv_poll_init(loop, &sync->readable, netsock_fd(sync->events));
	sync->timer.data = sync->readable.data = sync;
	sync->handles = 2;
	*ret = sync;
	return 0;
}

static void handle_closed(uv_handle_t *handle)
{
	struct sync *sync = handle->data;

	if (--sync->handles)
		return;
	netsock_free(sync->events);
	free(sync);
}

void sync_free(struct sync *sync)
{
	if (!sync)
		return;
	uv_close((uv_handle_t *)&sync->timer, handle_closed);
	uv_close((uv_handle_t *)&sync->readable, handle_closed);
}

static void watch(struct sync *sync)
{
	if (!sync_is_wanted(sync)) {
		uv_timer_stop(&sync->timer);
		uv_poll_stop(&sync->readable);
		return;
	}
	uv_timer_start(&sync->timer, on_timer, SYNC_WATCH_MS, SYNC_WATCH_MS);
	uv_poll_start(&sync->readable, UV_READABLE, on_readable);
}

static int want(struct sync *sync, const struct sync_wanted *wanted, struct err *err)
{
	// what is asked for now is no repair
	for (int i = 0; i < IPVS_ROLES; i++) {
		sync->states[i].was_running = false;
		sync->states[i].problem[0] = '\0';
		if (strcmp(wanted->roles[i].interface, sync->wanted.roles[i].interface) != 0)
			sync->states[i].index = 0;
	}
	sync->wanted = *wanted;
	watch(sync);
	return look(sync, false, err);
}

void sync_start(struct sync *sync, const struct sync_wanted *wanted)
{
	want(sync, wanted, NULL);
}

int sync_set(struct sync *sync, const struct sync_wanted *wanted, struct err *err)
{
	const struct sync_wanted before = sync->wanted;
	int rc = want(sync, wanted, err);

	if (rc)
		want(sync, &before, NULL);
	return rc;
}

void sync_stop(struct sync *sync)
{
	struct err err = { 0 };

	for (int i = 0; i < IPVS_ROLES; i++)
		if (wants(&sync->wanted, (enum ipvs_role)i) && stop(sync, (enum ipvs_role)i, &err))
			log_error("sync: the %s daemon cannot be stopped: %s", rows[i].name, err.text);
	sync_release(sync);
}

void sync_release(struct sync *sync)
{
	sync->wanted = (struct sync_wanted) { 0 };
	for (int i = 0; i < IPVS_ROLES; i++)
		sync->states[i] = (struct role_state) { 0 };
	watch(sync);
}

const struct sync_wanted *sync_wanted(const struct sync *sync)
{
	return &sync->wanted;
}

bool sync_is_wanted(const struct sync *sync)
{
	return sync->wanted.set;
}

bool sync_running(const struct sync *sync, enum ipvs_role role)
{
	return sync->states[role].running;
}

const char *sync_problem(const struct sync *sync, enum ipvs_role role)
{
	return sync->states[role].problem;
}
