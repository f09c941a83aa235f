// SPDX-License-Identifier: Apache-2.0
// iptables-save(8): "*table", ":CHAIN POLICY [packets:bytes]", "-A CHAIN matches -j TARGET", "COMMIT".
#include "agent/filter.h"

#include "shared/util.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MAX 128

static const struct {
	const char *name;
	enum filter_hook hook;
} hooks[] = {
	{ "PREROUTING", FILTER_PREROUTING },
	{ "INPUT", FILTER_INPUT },
	{ "FORWARD", FILTER_FORWARD },
	{ "OUTPUT", FILTER_OUTPUT },
	{ "POSTROUTING", FILTER_POSTROUTING },
};

static const struct {
	const char *name;
	enum filter_verdict verdict;
} targets[] = {
	{ "ACCEPT", FILTER_ACCEPT },
	{ "DROP", FILTER_DROP },
	{ "REJECT", FILTER_DROP },
	{ "RETURN", FILTER_RETURN },
	{ "DNAT", FILTER_DNAT },
	{ "REDIRECT", FILTER_DNAT },
	{ "NOTRACK", FILTER_NOTRACK },
	{ "NFQUEUE", FILTER_CANNOT_TELL },
	{ "QUEUE", FILTER_CANNOT_TELL },
};

static const struct {
	const char *name;
	unsigned int bit;
} states[] = {
	{ "INVALID", FILTER_INVALID },
	{ "ESTABLISHED", FILTER_ESTABLISHED },
	{ "RELATED", FILTER_RELATED },
	{ "NEW", FILTER_NEW },
	{ "UNTRACKED", FILTER_UNTRACKED },
};

struct reading {
	struct filter *filter;
	enum filter_tool tool;
	int family;
	char table[FILTER_NAME_MAX];
};

// Cuts a line into words, in place; double quotes hold one together, a backslash takes the next byte as it is.
static size_t cut(char *line, char *words[WORDS_MAX])
{
	size_t count = 0;
	char *to = line;

	for (char *from = line; *from && count < WORDS_MAX;) {
		bool quoted = false;

		while (*from == ' ')
			from++;
		if (!*from)
			break;
		words[count++] = to;
		for (; *from && (quoted || *from != ' '); from++) {
			if (*from == '"')
				quoted = !quoted;
			else if (*from == '\\' && from[1])
				*to++ = *++from;
			else
				*to++ = *from;
		}
		from += *from == ' ';
		*to++ = '\0';
	}
	return count;
}

// "80", "80:90", "80,443,8000:9000"
static int take_numbers(struct filter_match *match, const char *text)
{
	while (*text) {
		char *end;
		unsigned long lo = strtoul(text, &end, 10), hi = lo;

		if (end == text)
			return -EINVAL;
		if (*end == ':') {
			hi = end[1] ? strtoul(end + 1, &end, 10) : 65535;
			if (*end == ':')
				end++;
		}
		if ((*end && *end != ',') || lo > 65535 || hi > 65535)
			return -EINVAL;
		int rc = filter_add_number(match, (uint32_t)lo, (uint32_t)hi);
		if (rc)
			return rc;
		text = *end ? end + 1 : end;
	}
	return 0;
}

static int take_protocol(struct filter_match *match, const char *text)
{
	const struct protoent *known = getprotobyname(text);
	char *end;
	unsigned long number = known ? (unsigned long)known->p_proto : strtoul(text, &end, 10);

	if (!known && (*end || end == text))
		return -EINVAL;
	return filter_add_number(match, (uint32_t)number, (uint32_t)number);
}

static int take_states(struct filter_match *match, const char *text)
{
	unsigned int bits = 0;

	for (size_t len; *text; text += len + (text[len] == ',')) {
		len = strcspn(text, ",");
		unsigned int before = bits;

		for (size_t i = 0; i < ARRAY_SIZE(states); i++)
			if (strlen(states[i].name) == len && strncmp(text, states[i].name, len) == 0)
				bits |= states[i].bit;
		if (bits == before)
			return -EINVAL; // DNAT, SNAT
	}
	return filter_add_number(match, bits, bits);
}

static int take_local(struct filter_match *match, const char *text)
{
	return strcmp(text, "LOCAL") == 0 ? filter_add_number(match, 1, 1) : -EINVAL;
}

static const struct {
	const char *word;
	enum filter_key key;
	int (*take)(struct filter_match *match, const char *text);
} matches[] = {
	{ "-p", FILTER_PROTOCOL, take_protocol },
	{ "-s", FILTER_SADDR, filter_add_prefix },
	{ "-d", FILTER_DADDR, filter_add_prefix },
	{ "-i", FILTER_IN, filter_add_name },
	{ "-o", FILTER_OUT, filter_add_name },
	{ "--sport", FILTER_SPORT, take_numbers },
	{ "--sports", FILTER_SPORT, take_numbers },
	{ "--dport", FILTER_DPORT, take_numbers },
	{ "--dports", FILTER_DPORT, take_numbers },
	{ "--ctstate", FILTER_STATE, take_states },
	{ "--state", FILTER_STATE, take_states },
	{ "--dst-type", FILTER_LOCAL, take_local },
};

// Words that select nothing: their argument, if any, goes with them.
static size_t is_idle(const char *word)
{
	return strcmp(word, "-m") == 0 || strcmp(word, "--comment") == 0 ? 2 : 0;
}

// "FIN,SYN,RST,ACK", "ALL", "NONE"
static int take_flags(const char *text, uint32_t *ret)
{
	*ret = strcmp(text, "ALL") == 0 ? 0x3f : 0;
	if (*ret || strcmp(text, "NONE") == 0)
		return 0;
	for (size_t len; *text; text += len + (text[len] == ',')) {
		len = strcspn(text, ",");
		if (!filter_flag(text, len))
			return -EINVAL;
		*ret |= filter_flag(text, len);
	}
	return 0;
}

// --tcp-flags MASK WHAT
static int add_flags(struct filter_rule *rule, const char *mask, const char *what, bool inverted)
{
	struct filter_match *match = filter_add_match(rule, FILTER_FLAGS, inverted);
	uint32_t bits, set;

	if (!match)
		return -ENOMEM;
	if (!take_flags(mask, &bits) && !take_flags(what, &set))
		return filter_add_number(match, bits, set);
	filter_match_forget(match);
	return 0;
}

static int take_match(struct filter_rule *rule, const char *word, const char *argument, bool inverted)
{
	for (size_t i = 0; i < ARRAY_SIZE(matches); i++) {
		if (strcmp(matches[i].word, word) != 0)
			continue;
		struct filter_match *match = filter_add_match(rule, matches[i].key, inverted);
		int rc = match ? matches[i].take(match, argument) : -ENOMEM;

		if (rc == -EINVAL)
			filter_match_forget(match);
		return rc == -EINVAL ? 0 : rc;
	}
	// another match's word; those that it takes as arguments begin with no dash and come by here as well
	if (*word == '-' && !filter_add_match(rule, FILTER_OTHER, false))
		return -ENOMEM;
	return 1;
}

static void take_target(struct filter_rule *rule, char **words, size_t count)
{
	const char *target = words[1];

	rule->verdict = FILTER_NEXT;
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
		if (strcmp(targets[i].name, target) == 0)
			rule->verdict = targets[i].verdict;
	for (size_t i = 2; i < count; i++)
		if (strcmp(target, "CT") == 0 && strcmp(words[i], "--notrack") == 0)
			rule->verdict = FILTER_NOTRACK;
	if (rule->verdict == FILTER_NEXT) { // a chain, or a target that only marks, logs or changes: then there is none
		rule->verdict = strcmp(words[0], "-g") == 0 ? FILTER_GOTO : FILTER_JUMP;
		snprintf(rule->target, sizeof(rule->target), "%s", target);
	}
}

static int take_rule(struct filter_chain *chain, const char *text, char **words, size_t count)
{
	struct filter_rule *rule = filter_add_rule(chain);
	bool inverted = false;

	if (!rule)
		return -ENOMEM;
	snprintf(rule->text, sizeof(rule->text), "%s", text);
	for (size_t i = 2; i < count;) {
		const bool is_target = strcmp(words[i], "-j") == 0 || strcmp(words[i], "-g") == 0;

		if (strcmp(words[i], "!") == 0) {
			inverted = true;
			i++;
			continue;
		}
		if (is_target && i + 1 < count) {
			take_target(rule, &words[i], count - i);
			return 0;
		}
		if (is_idle(words[i])) {
			i += is_idle(words[i]);
			continue;
		}
		if (strcmp(words[i], "--tcp-flags") == 0 && i + 2 < count) {
			if (add_flags(rule, words[i + 1], words[i + 2], inverted))
				return -ENOMEM;
			inverted = false;
			i += 3;
			continue;
		}
		int rc = take_match(rule, words[i], i + 1 < count ? words[i + 1] : "", inverted);
		if (rc < 0)
			return rc;
		i += rc ? 1 : 2;
		inverted = false;
	}
	return 0; // without a target it only counts
}

static const char *family_name(int family)
{
	return family == AF_INET6 ? "ip6" : "ip";
}

static int take_chain(struct reading *r, char **words, size_t count)
{
	struct filter_chain *chain = count < 2 ? NULL : filter_add_chain(r->filter);

	if (!chain)
		return count < 2 ? -EINVAL : -E2BIG;
	chain->tool = r->tool;
	chain->family = r->family;
	snprintf(chain->family_name, sizeof(chain->family_name), "%s", family_name(r->family));
	snprintf(chain->table, sizeof(chain->table), "%s", r->table);
	snprintf(chain->name, sizeof(chain->name), "%s", words[0] + 1);
	chain->policy = strcmp(words[1], "DROP") == 0 ? FILTER_DROP : FILTER_ACCEPT;
	for (size_t i = 0; i < ARRAY_SIZE(hooks) && strcmp(words[1], "-") != 0; i++)
		if (strcmp(hooks[i].name, chain->name) == 0)
			chain->hook = hooks[i].hook;
	return 0;
}

static int take_line(struct reading *r, char *line)
{
	_cleanup_free_ char *text = strdup(line);
	char *words[WORDS_MAX];

	if (!text)
		return -ENOMEM;
	size_t count = cut(line, words);
	if (!count || *words[0] == '#' || strcmp(words[0], "COMMIT") == 0)
		return 0;
	if (*words[0] == '*') {
		snprintf(r->table, sizeof(r->table), "%s", words[0] + 1);
		return 0;
	}
	if (*words[0] == ':')
		return take_chain(r, words, count);
	struct filter_chain *chain = count < 2 || strcmp(words[0], "-A") != 0
		? NULL
		: filter_find_chain(r->filter, r->tool, family_name(r->family), r->table, words[1]);
	return chain ? take_rule(chain, text, words, count) : -EINVAL;
}

int filter_read_iptables(struct filter *filter, enum filter_tool tool, int family, const char *text, struct err *err)
{
	struct reading r = { .filter = filter, .tool = tool, .family = family };

	for (unsigned int number = 1; *text; number++) {
		const size_t len = strcspn(text, "\n");
		_cleanup_free_ char *line = strndup(text, len);
		int rc = line ? take_line(&r, line) : -ENOMEM;

		if (rc)
			return err_set(err, rc, NULL, "line %u makes no sense: %.*s", number,
				(int)(len > 80 ? 80 : len), text);
		text += len + (text[len] == '\n');
	}
	return 0;
}
