// SPDX-License-Identifier: Apache-2.0
// What can fail without a trace comes first: store, kernel, port. Only then is anything changed.
#include "director/director.h"

#include "director/api.h"
#include "director/diagnose.h"
#include "director/hook.h"
#include "director/http_server.h"
#include "director/ipvs_control.h"
#include "director/settings.h"
#include "director/state.h"
#include "director/sync.h"
#include "director/sysctl.h"
#include "director/traffic.h"
#include "shared/log.h"
#include "shared/loop.h"
#include "shared/notify.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define TICK_MS 1000
#define STANDBY_AGE_MS 1000
#define LEASE_BEAT_MS 250 // while there are agents
#define LEASE_LATE_MS 250 // a loop that is busy is late as well
#define STOP_MS 5000      // that a stop waits for what is to be closed
#define DESCRIPTORS 65536 // connections of the API, and one or two for each check under way

struct director {
	struct config *config;
	const char *file; // the configuration's; NULL: none
	const json_t *options;
	uv_loop_t loop;
	struct store *store;
	struct ipvs *ipvs;
	struct ipvs_control *control;
	struct settings *settings;
	struct sync *sync;
	struct reconcile *reconcile;
	struct vip *vip;
	struct health *health;
	struct path *path;
	struct replies *replies;
	struct diagnose *diagnose;
	struct traffic *traffic;
	struct hook *hook;
	struct events *events;
	struct state state;
	struct api api;
	struct http_server *http;
	uv_signal_t terminate, interrupt, hangup;
	uv_timer_t lease, resync, tick;
	uv_prepare_t turn;
	msec_t lease_due_ms;          // when state_expire has work, -1: the lease timer is not set
	msec_t lease_beat_ms;         // when it fires
	int repairs;                  // made by the verification under way
	struct check_folders folders; // of programs that checks may run
	struct notify notify;
	char trouble[160]; // of the last reload, "": none
	bool standby;      // when last looked
	msec_t standby_ms; // 0: never looked
};

// To the service manager, when it differs from what was said last.
static void say_summary(struct director *d)
{
	const struct model *model = &d->state.model;
	char text[NOTIFY_STATUS_MAX];

	if (d->notify.fd < 0)
		return;
	snprintf(text, sizeof(text), "%s%s%u services, %u backends, %u agents", d->trouble, *d->trouble ? "; " : "",
		HASH_COUNT(model->services), HASH_COUNT(model->by_name), HASH_COUNT(model->agents));
	notify_status(&d->notify, text);
}

static void on_stop_signal(uv_signal_t *handle, int signal)
{
	struct director *d = handle->data;

	log_info("%s: stopping%s", strsignal(signal),
		d->config->flush_on_exit ? "" : "; the kernel's table stays as it is");
	notify_stopping(&d->notify);
	uv_stop(&d->loop);
}

static void on_lease(uv_timer_t *timer);

// Sleeps until the next lease is due, in beats: one that is late tells that the loop stood still.
static void lease_beat(struct director *d)
{
	const msec_t now = clock_now_ms(), left = d->lease_due_ms - now,
		     wait = left < 0   ? 0
		: left < LEASE_BEAT_MS ? left
				       : LEASE_BEAT_MS;

	d->lease_beat_ms = now + wait;
	uv_update_time(&d->loop);
	uv_timer_start(&d->lease, on_lease, (uint64_t)wait, 0);
}

// Timers run before sockets are read, and agents whose requests are held wait for our answer: who was not heard while
// we were away was not silent.
static void on_lease(uv_timer_t *timer)
{
	struct director *d = timer->data;
	const msec_t now = clock_now_ms(), late = now - d->lease_beat_ms;

	if (late >= LEASE_LATE_MS) {
		log_warning(
			"this process stood still for %lld ms (its disk, or the machine): leases are that much longer",
			(long long)late);
		lease_stretch(&d->state.model, late);
	}
	if (late >= LEASE_LATE_MS || now >= d->lease_due_ms) {
		state_expire(&d->state);
		d->lease_due_ms = lease_next(&d->state.model);
	}
	if (d->lease_due_ms >= 0)
		lease_beat(d);
}

// Renewed leases only move away; the timer finds that out when it fires. Nearer ones move the timer.
static void lease_due(void *ctx, msec_t due_ms)
{
	struct director *d = ctx;
	const bool none = d->lease_due_ms < 0;

	if (!none && d->lease_due_ms <= due_ms)
		return;
	d->lease_due_ms = due_ms;
	if (none || due_ms < d->lease_beat_ms)
		lease_beat(d);
}

// The verification goes in slices, with other work in between; the next one begins a whole interval after the end.
static void on_resync(uv_timer_t *timer)
{
	struct director *d = timer->data;
	struct err err = { 0 };
	bool done = true;
	int changes = state_verify(&d->state, &done, &err);

	if (changes < 0)
		log_error("resync: %s; the next one tries again", err.text);
	else
		d->repairs += changes;
	if (done && d->repairs)
		log_warning("resync: the kernel differed from what it should be: %d changes made", d->repairs);
	if (done) {
		d->repairs = 0;
		settings_verify(d->settings);
		replies_verify(d->replies);
	}
	uv_timer_start(timer, on_resync, done ? (uint64_t)d->config->resync_ms : 1, 0);
}

static void on_tick(uv_timer_t *timer)
{
	struct director *d = timer->data;

	if (!state_tick(&d->state))
		uv_timer_stop(timer);
}

static void tick_due(void *ctx)
{
	struct director *d = ctx;

	if (!uv_is_active((uv_handle_t *)&d->tick))
		uv_timer_start(&d->tick, on_tick, TICK_MS, TICK_MS);
}

static bool is_sync_declared(const struct config *config)
{
	return field_is_set(&config_fields, config, "sync");
}

static void say_mistake(void *ctx, const struct err *err)
{
	char line[ERR_LINE_MAX];

	(void)ctx;
	log_error("services in the configuration file: %s", err_line(err, line, sizeof(line)));
}

// What the file declares replaces what was there.
static int declare_services(struct director *d, const struct config *config, struct err *err)
{
	json_t *services = config->services ? json_deep_copy(config->services) : NULL; // it is taken apart
	const struct state_document document = { .services = services, .mistake = say_mistake };
	int rc = 0;

	if (config->services)
		rc = services ? state_put_document(&d->state, &document, err)
			      : err_set(err, -ENOMEM, NULL, "out of memory");
	json_decref(services);
	int refused = state_settle(&d->state, rc ? NULL : err); // or, after a mistake, takes back what was staged

	return rc ? rc : refused;
}

// What differs and cannot be changed while running.
static void name_fixed(const struct config *old, const struct config *next)
{
	static const char *const fixed[] = { "listen", "insecure", "store", "vip_device", "body_max", "config_max",
		"probe_marks", "probe_settings" };
	char names[512];

	field_diff(&config_fields, old, next, names, sizeof(names));
	char *rest = names, *name;
	while ((name = strsep(&rest, ", ")))
		for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
			if (strcmp(name, fixed[i]) == 0)
				log_warning("%s: has changed in the file; it takes effect with the next start", name);
}

static int reload_settings(struct director *d, struct config *next, struct err *err)
{
	_cleanup_(settings_free_cleanup) struct settings *settings = NULL;
	struct sync_wanted sync = *sync_wanted(d->sync);
	int rc = settings_new(&next->ipvs, d->control, &settings, err);

	// a file that says nothing any more leaves it to what PUT /sync asked for
	if (!rc && is_sync_declared(next))
		sync = next->sync;
	else if (!rc && is_sync_declared(d->config))
		rc = state_kept_sync(d->store, &sync, err);
	if (rc)
		return rc;
	settings_with_sync(settings, sync.set);
	settings_free(d->settings);
	d->settings = d->api.settings = STEAL(settings);
	d->api.sync_declared = is_sync_declared(next);
	rc = settings_apply(d->settings, err);
	if (sync.set || is_sync_declared(next))
		sync_start(d->sync, &sync);
	else
		sync_release(d->sync);
	return rc;
}

static void reload(struct director *d)
{
	struct config *next = calloc(1, sizeof(*next));
	char message[CONFILE_MESSAGE_MAX] = "out of memory";
	struct err err = { 0 };

	d->trouble[0] = '\0';
	if (!next || config_read(d->file, d->options, next, message)) {
		log_error("reload: %s; all stays as it was", message);
		snprintf(d->trouble, sizeof(d->trouble), "reload refused: %.140s", message);
		if (next)
			config_clear(next);
		free(next);
		return;
	}
	d->folders = next->check_programs; // what is declared may run them already
	if (declare_services(d, next, &err) || reload_settings(d, next, &err)) {
		log_error("reload: %s; the rest is taken over", err.text);
		snprintf(d->trouble, sizeof(d->trouble), "reload not complete: %.130s", err.text);
	}
	name_fixed(d->config, next);
	log_set_level((enum log_level)next->log_level);
	d->state.reap_after_ms = next->reap_ms;
	d->state.take_all = next->take_all;
	hook_set(d->hook, &next->on_quorum_up, &next->on_quorum_down);
	config_clear(d->config);
	free(d->config);
	d->config = next;
	uv_timer_start(&d->resync, on_resync, 1, 0); // its interval, too, may be another
	log_info("reload: %s: read again", d->file ? d->file : "options");
}

static void on_hangup(uv_signal_t *handle, int signal)
{
	struct director *d = handle->data;

	(void)signal;
	notify_reloading(&d->notify);
	reload(d);
	notify_ready(&d->notify);
}

// Before the loop sleeps: what timers and checks have brought since, in one commit and one batch.
static void on_turn(uv_prepare_t *prepare)
{
	struct director *d = prepare->data;

	state_settle_facts(&d->state);
	say_summary(d);
}

static void agent_changed(void *ctx, struct agent *agent)
{
	api_agent_changed(&((struct director *)ctx)->api, agent);
}

static void agent_gone(void *ctx, struct agent *agent)
{
	api_agent_gone(&((struct director *)ctx)->api, agent);
}

static void verdict_changed(void *ctx, struct backend *backend)
{
	diagnose_changed(((struct director *)ctx)->diagnose, backend);
}

static void quorum_changed(void *ctx, const char *service, bool there, uint32_t up, uint32_t needed)
{
	hook_quorum(((struct director *)ctx)->hook, service, there, up, needed);
}

static void health_changed(void *ctx, struct backend *backend, const char *why)
{
	state_health_changed(&((struct director *)ctx)->state, backend, why);
	verdict_changed(ctx, backend);
}

static void health_recorded(void *ctx, struct backend *backend)
{
	state_health_recorded(&((struct director *)ctx)->state, backend);
}

static void backend_gone(void *ctx, struct backend *backend)
{
	(void)ctx;
	diagnose_forget(backend);
}

// Asked by every check, and seldom another.
static bool is_standby(void *ctx)
{
	struct director *d = ctx;
	struct ipvs_daemons daemons;
	const msec_t now = clock_now_ms();

	if (!d->standby_ms || now - d->standby_ms >= STANDBY_AGE_MS) {
		d->standby = sysctl_backup_only() && ipvs_control_daemons(d->control, &daemons, NULL) == 0 &&
			daemons.running[IPVS_BACKUP];
		d->standby_ms = now;
	}
	return d->standby;
}

static bool is_vip(void *ctx, const struct inet_addr *addr)
{
	return vip_is_wanted(((const struct director *)ctx)->vip, addr);
}

static void happened(void *ctx)
{
	struct director *d = ctx;

	api_events_happened(&d->api);
	tick_due(d); // they are to be saved
}

static void paths_changed(void *ctx)
{
	state_paths_changed(&((struct director *)ctx)->state);
}

// One line, and the exit code that the error stands for.
static int give_up(int code, const struct err *err, int otherwise)
{
	char line[ERR_LINE_MAX];

	log_error("%s", err_line(err, line, sizeof(line)));
	if (code == -EPERM)
		return EXIT_PERMISSION;
	return otherwise;
}

static int open_store(struct director *d, struct err *err)
{
	char dir[sizeof(d->config->store)];

	// the usual place need not exist yet; only its last folder is made
	snprintf(dir, sizeof(dir), "%s", d->config->store);
	char *slash = strrchr(dir, '/');
	if (slash && slash != dir) {
		*slash = '\0';
		mkdir(dir, 0755);
	}
	return store_open(d->config->store, &d->store, err);
}

static int open_kernel(struct director *d, struct err *err)
{
	int rc = ipvs_open(&d->ipvs, err);

	if (!rc)
		rc = reconcile_new(d->ipvs, &d->reconcile, err);
	if (!rc)
		rc = reconcile_observe(d->reconcile, err); // may we at all?
	if (!rc)
		rc = ipvs_control_open(&d->control, err);
	if (!rc)
		rc = settings_new(&d->config->ipvs, d->control, &d->settings, err);
	if (rc == -EPERM)
		err_set(err, rc, NULL, "no permission to use IPVS: run as root, or with CAP_NET_ADMIN and CAP_NET_RAW");
	return rc;
}

static int open_api(struct director *d, struct err *err)
{
	const struct http_server_options options = {
		.listen = d->config->listen.endpoints,
		.listen_count = d->config->listen.count,
		.body_max = d->config->body_max,
		.routes = api_routes,
		.route_count = api_route_count,
		.ctx = &d->api,
		.large_body_max = d->config->config_max,
		.begin_turn = api_begin_turn,
		.must_wait = api_must_wait,
		.end_of_turn = api_end_of_turn,
	};

	d->api = (struct api) {
		.state = &d->state,
		.settings = d->settings,
		.sync_declared = is_sync_declared(d->config),
		.loop = &d->loop,
		.started_ms = clock_now_ms(),
	};
	api_events_open(&d->api);
	return http_server_new(&d->loop, &options, &d->http, err);
}

// Settings come before services and daemons: some count for what is made from then on only.
static int load_settings(struct director *d, struct sync_wanted *ret_sync, struct err *err)
{
	const bool declared = is_sync_declared(d->config);
	int rc = state_kept_sync(d->store, ret_sync, err);

	if (rc)
		return rc;
	if (declared && ret_sync->set)
		log_warning("sync: as the configuration file says; what PUT /sync asked for does not count meanwhile");
	if (declared)
		*ret_sync = d->config->sync;
	settings_with_sync(d->settings, ret_sync->set);
	rc = settings_apply(d->settings, err);
	return rc == -EACCES || rc == -EROFS ? -EPERM : rc;
}

static int open_health(struct director *d, struct err *err)
{
	const struct health_hooks hooks = {
		.folders = &d->folders,
		.ask_agent = state_ask_agent,
		.changed = health_changed,
		.recorded = health_recorded,
		.ctx = d,
		.probe = { .aim = state_aim, .heard = state_heard, .asked = state_asked, .ctx = &d->state },
	};

	d->folders = d->config->check_programs;
	return health_new(&d->loop, &hooks, &d->health, err);
}

static int load_state(struct director *d, struct err *err)
{
	struct sync_wanted sync;
	int rc = load_settings(d, &sync, err);

	if (!rc)
		rc = events_new(d->store, &d->events, err);
	if (!rc)
		rc = vip_new(&d->loop, d->config->vip_device, &d->vip, err);
	if (!rc)
		rc = path_new(&d->loop, paths_changed, d, &d->path, err);
	if (!rc)
		rc = hook_new(&d->loop, &d->hook, err);
	if (!rc)
		rc = replies_new(d->path, d->config->probe_settings, is_vip, d, &d->replies, err);
	if (!rc)
		rc = open_health(d, err);
	if (!rc)
		rc = diagnose_new(&d->loop, &d->state, &d->diagnose, err);
	if (!rc)
		rc = traffic_new(&d->loop, &d->state, &d->traffic, err);
	if (rc)
		return rc;
	hook_set(d->hook, &d->config->on_quorum_up, &d->config->on_quorum_down);
	d->state = (struct state) {
		.store = d->store,
		.events = d->events,
		.reconcile = d->reconcile,
		.vip = d->vip,
		.health = d->health,
		.path = d->path,
		.replies = d->replies,
		.marks = { .first = d->config->probe_marks.first, .last = d->config->probe_marks.last },
		.reap_after_ms = d->config->reap_ms,
		.folders = &d->folders,
		.take_all = d->config->take_all,
		.first_revision = (uint32_t)(clock_wall_ms() / 1000),
		.agent_changed = agent_changed,
		.agent_gone = agent_gone,
		.verdict_changed = verdict_changed,
		.backend_gone = backend_gone,
		.is_standby = is_standby,
		.lease_due = lease_due,
		.tick_due = tick_due,
		.quorum_changed = quorum_changed,
		.happened = happened,
		.ctx = d,
	};
	rc = state_load(&d->state, err);
	if (!rc)
		rc = sync_new(&d->loop, d->control, &d->sync, err);
	d->api.sync = d->sync;
	d->api.diagnose = d->diagnose;
	// without a word about it daemons are none of our business
	if (!rc && (sync.set || is_sync_declared(d->config)))
		sync_start(d->sync, &sync);
	if (!rc)
		rc = declare_services(d, d->config, err);
	if (!rc && lease_next(&d->state.model) >= 0)
		lease_due(d, lease_next(&d->state.model));
	if (!rc)
		tick_due(d);
	return rc;
}

static void start_timers(struct director *d)
{
	uv_timer_start(&d->resync, on_resync, (uint64_t)d->config->resync_ms, 0);
	uv_prepare_start(&d->turn, on_turn);
	uv_signal_start(&d->terminate, on_stop_signal, SIGTERM);
	uv_signal_start(&d->interrupt, on_stop_signal, SIGINT);
	uv_signal_start(&d->hangup, on_hangup, SIGHUP);
}

static void init_handles(struct director *d)
{
	struct err err = { 0 };

	uv_loop_init(&d->loop);
	if (notify_open(&d->notify, &d->loop, &err))
		log_warning("%s; the service manager is not told of this process", err.text);
	uv_timer_init(&d->loop, &d->lease);
	uv_timer_init(&d->loop, &d->resync);
	uv_timer_init(&d->loop, &d->tick);
	uv_prepare_init(&d->loop, &d->turn);
	uv_signal_init(&d->loop, &d->terminate);
	uv_signal_init(&d->loop, &d->interrupt);
	uv_signal_init(&d->loop, &d->hangup);
	d->lease.data = d->resync.data = d->tick.data = d->turn.data = d->terminate.data = d->interrupt.data =
		d->hangup.data = d;
	d->lease_due_ms = -1;
}

static void stop(struct director *d)
{
	api_close(&d->api);
	api_events_close(&d->api);
	http_server_free(d->http);
	if (d->config->flush_on_exit && d->sync)
		sync_stop(d->sync);
	if (d->config->flush_on_exit && d->state.reconcile)
		state_flush_kernel(&d->state);
	if (d->config->flush_on_exit && d->replies)
		replies_restore(d->replies);
	traffic_free(d->traffic);
	state_clear(&d->state);
	diagnose_free(d->diagnose);
	health_free(d->health);
	replies_free(d->replies);
	hook_free(d->hook);
	path_free(d->path);
	vip_free(d->vip);
	sync_free(d->sync);
	settings_free(d->settings);
	ipvs_control_free(d->control);
	reconcile_free(d->reconcile);
	ipvs_free(d->ipvs);
	events_free(d->events);
	store_free(d->store);
	uv_handle_t *const own[] = { (uv_handle_t *)&d->lease, (uv_handle_t *)&d->resync, (uv_handle_t *)&d->tick,
		(uv_handle_t *)&d->turn, (uv_handle_t *)&d->terminate, (uv_handle_t *)&d->interrupt,
		(uv_handle_t *)&d->hangup };
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		uv_close(own[i], NULL);
	notify_close(&d->notify);
	if (!loop_finish(&d->loop, STOP_MS))
		log_warning("stopping without a program that was ended and runs on");
}

// What a shell gives is 1,024, for the sake of select(2), which nothing here uses.
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= DESCRIPTORS)
		return;
	limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int director_recover(const struct config *config)
{
	char kept[sizeof(config->store) + 16];
	struct err err = { 0 };
	size_t saved = 0, lost = 0;

	if (store_recover(config->store, state_accepts_row, NULL, kept, sizeof(kept), &saved, &lost, &err)) {
		log_error("%s", err.text);
		return EXIT_STORE;
	}
	log_info("%s: made anew with %zu rows; %zu that were found cannot be used; the old file is %s", config->store,
		saved, lost, kept);
	return EXIT_FINE;
}

int director_run(struct config *config, const char *path, const json_t *options)
{
	struct director d = { .config = config, .file = path, .options = options };
	struct err err = { 0 };
	int code = EXIT_FINE;

	signal(SIGPIPE, SIG_IGN);
	raise_descriptors();
	// programs that we start (checks, on_quorum_up) inherit no capabilities of the unit's
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	init_handles(&d);
	d.api.state = &d.state;
	int rc = open_store(&d, &err);
	if (rc)
		code = give_up(rc, &err, EXIT_STORE);
	if (!rc) {
		rc = open_kernel(&d, &err);
		if (rc)
			code = give_up(rc, &err, rc == -ENOENT || rc == -EOPNOTSUPP ? EXIT_KERNEL : EXIT_FAILED);
	}
	if (!rc) {
		rc = open_api(&d, &err);
		if (rc)
			code = give_up(rc == -EACCES ? -EPERM : rc, &err, EXIT_FAILED);
	}
	if (!rc) {
		rc = load_state(&d, &err);
		if (rc)
			code = give_up(rc, &err, rc == -EOPNOTSUPP ? EXIT_KERNEL : EXIT_FAILED);
	}
	if (!rc) {
		char listen[INET_ENDPOINT_MAX];

		start_timers(&d);
		log_info("brass-director %s: API on http://%s, VIPs on %s, store %s", BRASS_VERSION,
			inet_endpoint_format(&config->listen.endpoints[0], listen), config->vip_device, config->store);
		notify_ready(&d.notify);
		uv_run(&d.loop, UV_RUN_DEFAULT);
		state_settle_facts(&d.state); // what came with the signal
	}
	stop(&d);
	config_clear(d.config);
	free(d.config);
	return code;
}
