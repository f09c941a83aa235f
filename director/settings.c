// SPDX-License-Identifier: Apache-2.0
// Reading, comparing and writing go by the numbers that a row stands for (settings_fields.h).
#include "director/settings.h"

#include "shared/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define FOLDER "/proc/sys/net/ipv4/vs/"
#define SECOND_MS 1000

// What we want when nothing is declared.
static const struct {
	const char *name;
	int64_t value;
	bool sync; // only beside a sync daemon
} defaults[] = {
	{ "expire_nodest_conn", 1, false },
	{ "expire_quiescent_template", 1, false },
	{ "conn_reuse_mode", 1, false },
	{ "sloppy_tcp", 1, true },
};

struct settings {
	struct settings_wanted declared;
	struct ipvs_control *control;
	bool sync;
	uint64_t failed; // rows that could not be read or set: said once
	bool timeouts_failed;
};

static const char *name_of(size_t row)
{
	return settings_fields.rows[row].name;
}

// What row shall be; false: it is left alone.
static bool wanted(const struct settings *settings, size_t row, int64_t ret[2], bool *ret_declared)
{
	*ret_declared = settings->declared.set >> row & 1;
	if (*ret_declared) {
		settings_numbers(&settings->declared, row, ret);
		return true;
	}
	ret[1] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
		if (strcmp(defaults[i].name, name_of(row)) != 0 || (defaults[i].sync && !settings->sync))
			continue;
		ret[0] = defaults[i].value;
		return true;
	}
	return false;
}

// --- files ---

static int open_file(const char *name, int flags)
{
	char path[sizeof(FOLDER) + 40];

	snprintf(path, sizeof(path), FOLDER "%s", name);
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int read_file(const char *name, int64_t ret[2])
{
	_cleanup_close_ int fd = open_file(name, O_RDONLY);
	char text[SETTINGS_TEXT_MAX];

	if (fd < 0)
		return fd;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return settings_read_text(text, ret) < 0 ? -EBADMSG : 0;
}

static int write_file(const char *name, const char *text)
{
	_cleanup_close_ int fd = open_file(name, O_WRONLY);

	if (fd < 0)
		return fd;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

// Sets a row that differs. 1: it was set; *ret_found is what was there. 0 or -errno.
static int set_row(size_t row, const int64_t want[2], char found[SETTINGS_TEXT_MAX], char text[SETTINGS_TEXT_MAX])
{
	int64_t now[2];
	int rc = read_file(name_of(row), now);

	snprintf(found, SETTINGS_TEXT_MAX, "?");
	settings_print_text(row, want, text);
	if (rc)
		return rc;
	settings_print_text(row, now, found);
	if (settings_same(name_of(row), now, want))
		return 0;
	rc = write_file(name_of(row), text);
	return rc ? rc : 1;
}

// --- timeouts ---

static bool wants_timeouts(const struct settings *settings)
{
	return settings->declared.timeouts.set;
}

// Sets those that differ; tell hears of each.
static int set_timeouts(
	struct settings *settings, void (*tell)(const char *name, const char *found, const char *want), struct err *err)
{
	uint32_t now[IPVS_TIMEOUTS], want[IPVS_TIMEOUTS];
	bool differs = false;
	int rc = ipvs_control_timeouts(settings->control, now, err);

	settings_wanted_timeouts(&settings->declared.timeouts, want);
	for (size_t i = 0; i < IPVS_TIMEOUTS && !rc; i++)
		differs |= want[i] && want[i] != now[i];
	if (!rc && differs)
		rc = ipvs_control_set_timeouts(settings->control, want, err);
	for (size_t i = 0; i < IPVS_TIMEOUTS && !rc && differs; i++) {
		char name[32], found[CLOCK_DURATION_MAX], wish[CLOCK_DURATION_MAX];

		if (!want[i] || want[i] == now[i])
			continue;
		snprintf(name, sizeof(name), "timeouts.%s", settings_timeout_fields.rows[i].name);
		tell(name, clock_format_duration((msec_t)now[i] * SECOND_MS, found),
			clock_format_duration((msec_t)want[i] * SECOND_MS, wish));
	}
	if (rc) {
		err_prefix(err, "ipvs.timeouts");
		err_context(err, "cannot be set: ");
	}
	return rc;
}

// --- life ---

int settings_new(
	const struct settings_wanted *declared, struct ipvs_control *control, struct settings **ret, struct err *err)
{
	for (size_t i = 0; i < SETTINGS_FILES; i++) {
		int64_t now[2];

		if (!(declared->set >> i & 1) || settings_comes_later(i) || read_file(name_of(i), now) != -ENOENT)
			continue;
		err_set(err, -EOPNOTSUPP, name_of(i),
			"this kernel has no such setting (" FOLDER "%s): take it out of the configuration", name_of(i));
		err_prefix(err, "ipvs");
		return -EOPNOTSUPP;
	}
	struct settings *settings = calloc(1, sizeof(*settings));

	if (!settings)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	settings->declared = *declared;
	settings->control = control;
	*ret = settings;
	return 0;
}

void settings_free(struct settings *settings)
{
	free(settings);
}

void settings_with_sync(struct settings *settings, bool sync)
{
	settings->sync = sync;
}

static void tell_set(const char *name, const char *found, const char *want)
{
	log_info("ipvs.%s: was %s, set to %s", name, found, want);
}

static void tell_put_back(const char *name, const char *found, const char *want)
{
	log_warning("ipvs.%s: found %s, wanted %s; put back", name, found, want);
}

// A default of ours: the director works without it.
static void warn_of_default(struct settings *settings, size_t row, const char *want, int rc)
{
	if (settings->failed >> row & 1)
		return;
	settings->failed |= UINT64_C(1) << row;
	if (rc == -ENOENT)
		log_warning("ipvs.%s: this kernel has no such setting; going on without our default, %s", name_of(row),
			want);
	else
		log_warning("ipvs.%s: our default, %s, cannot be set: %s; declare another value, or set it by hand",
			name_of(row), want, strerror(-rc));
}

int settings_apply(struct settings *settings, struct err *err)
{
	for (size_t i = 0; i < SETTINGS_FILES; i++) {
		char found[SETTINGS_TEXT_MAX], text[SETTINGS_TEXT_MAX];
		int64_t want[2];
		bool declared;

		if (!wanted(settings, i, want, &declared))
			continue;
		int rc = set_row(i, want, found, text);
		if (rc == -ENOENT && settings_comes_later(i))
			continue; // the first resync after that sets it
		if (rc < 0 && declared) {
			err_set(err, rc, name_of(i), "found %s, cannot be set to %s: %s", found, text, strerror(-rc));
			err_prefix(err, "ipvs");
			return rc;
		}
		if (rc < 0)
			warn_of_default(settings, i, text, rc);
		else if (rc)
			tell_set(name_of(i), found, text);
	}
	return wants_timeouts(settings) ? set_timeouts(settings, tell_set, err) : 0;
}

void settings_verify(struct settings *settings)
{
	struct err err = { 0 };
	char line[ERR_LINE_MAX];

	for (size_t i = 0; i < SETTINGS_FILES; i++) {
		const uint64_t bit = UINT64_C(1) << i;
		char found[SETTINGS_TEXT_MAX], text[SETTINGS_TEXT_MAX];
		int64_t want[2];
		bool declared;

		if (!wanted(settings, i, want, &declared))
			continue;
		int rc = set_row(i, want, found, text);
		if (rc == -ENOENT && settings_comes_later(i))
			continue;
		if (rc > 0)
			tell_put_back(name_of(i), found, text);
		if (rc >= 0)
			settings->failed &= ~bit;
		else if (!declared)
			warn_of_default(settings, i, text, rc);
		else if (!(settings->failed & bit))
			log_error("ipvs.%s: found %s, cannot be put back to %s: %s; every resync tries again",
				name_of(i), found, text, strerror(-rc));
		if (rc < 0)
			settings->failed |= bit;
	}
	int rc = wants_timeouts(settings) ? set_timeouts(settings, tell_put_back, &err) : 0;

	if (rc && !settings->timeouts_failed)
		log_error("%s; every resync tries again", err_line(&err, line, sizeof(line)));
	settings->timeouts_failed = rc != 0;
}

// --- showing ---

static void write_settings(const struct settings *settings, struct out *out)
{
	out_open(out, '{');
	for (size_t i = 0; i < SETTINGS_FILES; i++) {
		int64_t n[2];
		bool declared;

		if (!wanted(settings, i, n, &declared) || read_file(name_of(i), n))
			continue;
		out_key(out, name_of(i));
		settings_write_value(i, n, out);
	}
	out_close(out, '{');
}

void settings_write(const struct settings *settings, struct out *out)
{
	uint32_t timeouts[IPVS_TIMEOUTS];
	struct ipvs_info info;

	out_open(out, '{');
	if (ipvs_control_info(settings->control, &info, NULL) == 0) {
		char version[32];

		snprintf(version, sizeof(version), "%u.%u.%u", info.version >> 16 & 0xff, info.version >> 8 & 0xff,
			info.version & 0xff);
		out_key(out, "version");
		out_string(out, version);
		out_key(out, "connection_table_size");
		out_uint(out, info.table_size);
	}
	out_key(out, "settings");
	write_settings(settings, out);
	if (ipvs_control_timeouts(settings->control, timeouts, NULL) == 0) {
		out_key(out, "timeouts");
		out_open(out, '{');
		for (size_t i = 0; i < IPVS_TIMEOUTS; i++) {
			char buf[CLOCK_DURATION_MAX];

			out_key(out, settings_timeout_fields.rows[i].name);
			out_string(out, clock_format_duration((msec_t)timeouts[i] * SECOND_MS, buf));
		}
		out_close(out, '{');
	}
	out_close(out, '{');
}
