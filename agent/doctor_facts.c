// SPDX-License-Identifier: Apache-2.0
#include "agent/doctor_facts.h"

#include "agent/desired.h"
#include "agent/doctor_run.h"
#include "agent/host.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#define SEGMENT_WAIT_MS 500

// --- small files ---

// A small file of /proc or /sys. Returns its length or -errno.
static ssize_t read_file(const char *path, char *buf, size_t size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;

	if (fd < 0)
		return -errno;
	for (ssize_t n; len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) != 0; len += (size_t)n)
		if (n < 0)
			return -errno;
	buf[len] = '\0';
	return (ssize_t)len;
}

static int read_number(const char *path, int *ret)
{
	char text[32];
	ssize_t n = read_file(path, text, sizeof(text));

	if (n <= 0)
		return n < 0 ? (int)n : -EIO;
	*ret = atoi(text);
	return 0;
}

// One of the kernel's lists of modules has "/NAME.ko" (compressed or not), with "-" or "_" as the file is called.
static int is_listed(const char *release, const char *list, const char *name)
{
	char path[512], line[4096], wanted[80];

	snprintf(path, sizeof(path), "/lib/modules/%s/%s", release, list);
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	if (!file)
		return -errno;
	snprintf(wanted, sizeof(wanted), "/%s.ko", name);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, ":\n")] = '\0'; // modules.dep: what it needs comes behind
		for (char *p = line; *p; p++)
			*p = *p == '-' ? '_' : *p;
		if (strstr(line, wanted))
			return 1;
	}
	return 0;
}

enum doctor_module doctor_module(const char *name)
{
	struct utsname system;
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	if (access(path, F_OK) == 0)
		return DOCTOR_MODULE_LOADED;
	if (uname(&system))
		return DOCTOR_MODULE_UNKNOWN;
	int built_in = is_listed(system.release, "modules.builtin", name);
	int there = is_listed(system.release, "modules.dep", name);
	if (built_in > 0)
		return DOCTOR_MODULE_LOADED;
	return there > 0 ? DOCTOR_MODULE_THERE : there == 0 ? DOCTOR_MODULE_MISSING : DOCTOR_MODULE_UNKNOWN;
}

// "Tcp: InSegs InCsumErrors\nTcp: 12 0\n": the value below the name.
static uint64_t counter(const char *text, const char *protocol, const char *name)
{
	const char *names = strstr(text, protocol);
	const char *values = names ? strstr(names + 1, protocol) : NULL;

	while (names && values && *names != '\n' && *values != '\n') {
		const size_t name_len = strcspn(names, " \n");

		if (strlen(name) == name_len && strncmp(names, name, name_len) == 0)
			return strtoull(values, NULL, 10);
		names += name_len + (names[name_len] == ' ');
		values += strcspn(values, " \n");
		values += *values == ' ';
	}
	return 0;
}

struct doctor_counters doctor_counters(void)
{
	char text[8192] = "";

	read_file("/proc/net/snmp", text, sizeof(text));
	return (struct doctor_counters) {
		.tcp_checksum = counter(text, "Tcp: ", "InCsumErrors"),
		.udp_checksum = counter(text, "Udp: ", "InCsumErrors"),
	};
}

// --- the packet filter ---

static void unseen(struct doctor *d, const char *why)
{
	const size_t len = strlen(d->filter_unseen);

	if (!strstr(d->filter_unseen, why))
		snprintf(d->filter_unseen + len, sizeof(d->filter_unseen) - len, "%s%.160s", len ? "; " : "", why);
}

// A program that is not installed is no answer: the kernel may have rules all the same.
static int read_rules(struct doctor *d, const char *program, const char *argument, enum filter_tool tool, int family)
{
	const char *const with_argument[] = { program, "-j", argument, "ruleset", NULL };
	const char *const alone[] = { program, NULL };
	_cleanup_free_ char *text = NULL;
	struct err err = { 0 };
	size_t len;
	int rc = doctor_run(argument ? with_argument : alone, &text, &len, &err);

	// the plain name may be that of the other kind, which does not see these tables
	if (!rc && tool == FILTER_IPTABLES && (!strchr(text, '*') || strstr(text, "(nf_tables)")))
		rc = err_set(&err, -ENOENT, NULL, "iptables-legacy-save is not installed");
	else if (!rc && tool == FILTER_NFT)
		rc = filter_read_nft(&d->filter, text, len, &err);
	else if (!rc)
		rc = filter_read_iptables(&d->filter, tool, family, text, &err);
	if (rc && rc != -ENOENT && !strstr(err.text, program))
		err_context(&err, "%s: ", program);
	if (rc)
		unseen(d, err.text);
	return rc;
}

// Asking for what is in a module loads it, and one that is not loaded has nothing to tell. What is built in is not
// always to be seen: without the list of this kernel's modules it has to be asked, and nothing can be loaded either.
static bool may_ask(const char *module)
{
	enum doctor_module is = doctor_module(module);

	return is == DOCTOR_MODULE_LOADED || is == DOCTOR_MODULE_UNKNOWN;
}

// Does the kernel hold tables of iptables' own kind? -1: that cannot be read.
static int has_legacy(const char *path)
{
	char names[256];
	ssize_t n = read_file(path, names, sizeof(names));

	return n == -ENOENT || n == 0 ? 0 : n > 0 ? 1 : -1;
}

static void read_filter(struct doctor *d)
{
	static const struct {
		int family;
		const char *names, *legacy, *nft, *plain;
	} kinds[] = {
		{ AF_INET, "/proc/net/ip_tables_names", "iptables-legacy-save", "iptables-nft-save", "iptables-save" },
		{ AF_INET6, "/proc/net/ip6_tables_names", "ip6tables-legacy-save", "ip6tables-nft-save",
			"ip6tables-save" },
	};
	const bool has_nft = may_ask("nf_tables");

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const int legacy = has_legacy(kinds[i].names);
		char before[sizeof(d->filter_unseen)];

		memcpy(before, d->filter_unseen, sizeof(before));
		// where there is one iptables only it has the plain name
		if (legacy &&
			read_rules(d, kinds[i].legacy, NULL, FILTER_IPTABLES_LEGACY, kinds[i].family) == -ENOENT) {
			memcpy(d->filter_unseen, before, sizeof(before));
			read_rules(d, kinds[i].plain, NULL, FILTER_IPTABLES, kinds[i].family);
			memcpy(before, d->filter_unseen, sizeof(before));
		}
		// without it nft shows the same rules, but for the extensions' own words
		if (has_nft && read_rules(d, kinds[i].nft, NULL, FILTER_IPTABLES_NFT, kinds[i].family) == -ENOENT)
			memcpy(d->filter_unseen, before, sizeof(before));
	}
	if (has_nft)
		read_rules(d, "nft", "list", FILTER_NFT, AF_UNSPEC);
}

static void read_conntrack(struct doctor *d)
{
	d->tracks = !read_number("/proc/sys/net/netfilter/nf_conntrack_tcp_loose", &d->tcp_loose) &&
		!read_number("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", &d->tcp_be_liberal);
}

// --- all of it ---

// Where no director is there to show it, as the agent finds it.
static void find_address(struct doctor *d)
{
	struct host host;

	if (inet_addr_is_set(&d->answers.address) || !d->config->statics.count ||
		host_peek(d->config->run_dir, &host, NULL))
		return;
	host_address(&host, &d->answers.address);
	host_close(&host);
}

static int read_host(struct doctor *d, struct err *err)
{
	struct observe_more more = { .rules = true };
	struct spec *spec = &d->services.spec;

	for (size_t i = 0; i < spec->count; i++) {
		more.fous |= spec->services[i].method == FORWARD_GUE && may_ask("fou");
		if (spec->services[i].method == FORWARD_NAT)
			more.table = spec->table;
	}
	int rc = netsock_open(NETLINK_ROUTE, &d->sock, err);
	if (!rc)
		rc = observe(d->sock, &more, &d->seen, err);
	if (!rc)
		rc = neigh_dump(d->sock, &d->neighs, &d->neigh_count, err);
	if (rc)
		return rc;
	spec->mtu = observe_mtu(&d->seen, &spec->address);
	rc = desired(spec, d->seen.links, d->seen.link_count, &d->want);
	return rc ? err_set(err, rc, NULL, "out of memory") : 0;
}

// --- the segment ---

static bool is_asked_for(const struct doctor *d, const struct inet_addr *vip)
{
	for (size_t i = 0; i < d->question_count; i++)
		if (inet_addr_cmp(&d->questions[i].addr, vip) == 0)
			return true;
	return false;
}

// All VIPs at once: waiting for answers takes the same time.
static void ask_segment(struct doctor *d, const char *service)
{
	const struct spec *spec = &d->services.spec;
	const struct iflink *underlay = doctor_device_of(d, &spec->address);
	struct err err = { 0 };

	d->questions = calloc(DOCTOR_VIPS_MAX, sizeof(*d->questions));
	for (size_t i = 0; d->questions && i < spec->count && d->question_count < DOCTOR_VIPS_MAX; i++) {
		const struct spec_service *s = &spec->services[i];

		if (s->method != FORWARD_NAT && (!service || strcmp(s->name, service) == 0) &&
			!is_asked_for(d, &s->vip))
			d->questions[d->question_count++].addr = s->vip;
	}
	// other media have no neighbours
	if (!underlay || underlay->type != ARPHRD_ETHER || !d->question_count)
		d->question_count = 0;
	else if (doctor_segment_ask(underlay, d->questions, d->question_count, SEGMENT_WAIT_MS, &err))
		snprintf(d->segment_unseen, sizeof(d->segment_unseen), "%.250s", err.text);
}

// An address that only the default route leads to: what is kept for documentation (RFC 5737, RFC 3849).
static int take_client(struct doctor *d, const char *client, struct err *err)
{
	struct inet_addr addr;

	inet_addr_parse("198.51.100.1", &d->clients[0]);
	inet_addr_parse("2001:db8::1", &d->clients[1]);
	if (!client)
		return 0;
	if (inet_addr_parse(client, &addr) || !inet_addr_is_unicast(&addr))
		return err_set(
			err, -EINVAL, NULL, "--client: found \"%.60s\", allowed is the address of a client", client);
	d->clients[addr.family == AF_INET6] = addr;
	d->client_given = true;
	return 0;
}

int doctor_read(
	const struct config *config, const char *service, const char *client, struct doctor *ret, struct err *err)
{
	*ret = (struct doctor) {
		.config = config,
		.begin_wall_ms = clock_wall_ms(),
		.begin_mono_ms = clock_now_ms(),
		.begin = doctor_counters(),
	};
	int rc = take_client(ret, client, err);

	if (!rc)
		rc = uv_loop_init(&ret->loop);
	ret->loop_is_open = !rc;
	if (!rc)
		rc = http_client_new(&ret->loop, &ret->http, err);
	if (!rc)
		rc = ask_directors(config, &ret->loop, ret->http, &ret->answers, err);
	if (!rc)
		find_address(ret);
	if (!rc &&
		(services_init(&ret->services, config, &ret->answers.list) ||
			services_build(&ret->services, &ret->answers.address)))
		rc = err_set(err, -ENOMEM, NULL, "out of memory");
	if (!rc)
		rc = read_host(ret, err);
	if (rc)
		return rc;
	read_filter(ret);
	read_conntrack(ret);
	ask_segment(ret, service);
	return 0;
}

void doctor_clear(struct doctor *d)
{
	http_client_free(d->http);
	if (d->loop_is_open) {
		uv_run(&d->loop, UV_RUN_DEFAULT);
		uv_loop_close(&d->loop);
	}
	services_clear(&d->services);
	ask_answers_clear(&d->answers);
	observed_clear(&d->seen);
	free(d->neighs);
	free(d->questions);
	resource_list_clear(&d->want);
	filter_clear(&d->filter);
	netsock_free(d->sock);
	doctor_report_clear(&d->report);
}

// --- views ---

const struct iflink *doctor_link(const struct doctor *d, int ifindex)
{
	for (size_t i = 0; i < d->seen.link_count; i++)
		if (d->seen.links[i].index == ifindex)
			return &d->seen.links[i];
	return NULL;
}

const struct iflink *doctor_device_of(const struct doctor *d, const struct inet_addr *addr)
{
	for (size_t i = 0; inet_addr_is_set(addr) && i < d->seen.addr_count; i++)
		if (inet_addr_cmp(&d->seen.addrs[i].prefix.addr, addr) == 0)
			return doctor_link(d, d->seen.addrs[i].ifindex);
	return NULL;
}

struct doctor_case doctor_case(const struct doctor *d, size_t i)
{
	const struct spec *spec = &d->services.spec;
	const struct spec_service *service = &spec->services[i];
	const struct client *client = d->services.outcomes[i].client;
	struct doctor_case c = {
		.service = service,
		.client = client,
		.check = services_item(&d->services, i).check,
		.underlay = doctor_device_of(d, &spec->address),
		.device = desired_device(spec, service),
		.client_at = d->clients[service->vip.family == AF_INET6],
		.is_tunnel = forward_is_tunnel(service->method),
	};

	c.link = iflink_find(d->seen.links, d->seen.link_count, c.device);
	if (client)
		c.director = inet_addr_is_set(&client->answer.source) ? client->answer.source : client->peer;
	else if (service->method == FORWARD_NAT)
		c.director = service->gateway;
	for (size_t b = 0; client && client->fresh && b < d->config->backends.count; b++)
		if (strcmp(d->config->backends.items[b].service, service->name) == 0)
			c.backend = &d->answers.directors[client - d->answers.clients].backends[b];
	for (size_t a = 0; c.link && a < d->seen.addr_count; a++)
		c.has_vip |= d->seen.addrs[a].ifindex == c.link->index &&
			inet_addr_cmp(&d->seen.addrs[a].prefix.addr, &service->vip) == 0;
	return c;
}
