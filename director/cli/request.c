// SPDX-License-Identifier: Apache-2.0
#include "director/cli/request.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

struct transfer {
	struct answer *answer;
	size_t room;
	bool too_large;
};

DEFINE_CLEANUP(CURL *, curl_easy_cleanup)

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
	struct transfer *transfer = ctx;
	struct answer *answer = transfer->answer;
	size_t n = size * count;

	if (n > REQUEST_ANSWER_MAX - answer->len) {
		transfer->too_large = true;
		return 0;
	}
	if (answer->len + n >= transfer->room) {
		size_t room = 2 * (answer->len + n) + 1;
		char *body = realloc(answer->body, room);

		if (!body)
			return 0;
		answer->body = body;
		transfer->room = room;
	}
	memcpy(answer->body + answer->len, data, n);
	answer->len += n;
	answer->body[answer->len] = '\0';
	return n;
}

// Each name of the path encoded by itself.
static int write_names(CURL *easy, const char *names, FILE *out)
{
	for (;;) {
		size_t len = strcspn(names, "/");
		char *encoded = len ? curl_easy_escape(easy, names, (int)len) : NULL;

		if (len && !encoded)
			return -ENOMEM;
		fprintf(out, "/%s", encoded ? encoded : "");
		curl_free(encoded);
		if (!names[len])
			return 0;
		names += len + 1;
	}
}

static char *make_url(CURL *easy, const char *director, const struct question *question)
{
	size_t base = strlen(director), len;
	char *url = NULL;
	FILE *out = open_memstream(&url, &len);
	int rc = 0;

	if (!out)
		return NULL;
	while (base > 0 && director[base - 1] == '/')
		base--;
	fprintf(out, "%.*s/%s", (int)base, director, question->resource);
	if (question->name)
		rc = write_names(easy, question->name, out);
	if (question->query)
		fprintf(out, "?%s", question->query);
	if (fclose(out) == 0 && !rc)
		return url;
	free(url);
	return NULL;
}

// The director's own words for a refusal, or the status alone.
static int refusal(const char *director, long status, const json_t *json, struct err *err)
{
	const char *text = json_string_value(json_object_get(json, "error"));
	const char *field = json_string_value(json_object_get(json, "field"));
	int code = status == 404 ? -ENOENT : -EREMOTEIO;

	if (text && *text)
		return err_set(err, code, field, "%s", text);
	return err_set(
		err, code, NULL, "%s answered with HTTP status %ld and no reason; is it a director?", director, status);
}

static struct curl_slist *make_headers(const struct question *question)
{
	struct curl_slist *list = NULL, *more;
	char line[120];

	// small documents need no "Expect: 100-continue", and large ones are checked whole anyway
	list = curl_slist_append(NULL, "Expect:");
	snprintf(line, sizeof(line), "Accept: %s", question->accept ? question->accept : "application/json");
	if (list && (more = curl_slist_append(list, line)))
		list = more;
	if (list && question->body) {
		snprintf(line, sizeof(line), "Content-Type: %s", question->body_type);
		more = curl_slist_append(list, line);
		if (more)
			list = more;
	}
	return list;
}

DEFINE_CLEANUP(struct curl_slist *, curl_slist_free_all)

int request_ask(const char *director, const struct question *question, struct answer **ret, struct err *err)
{
	_cleanup_(curl_easy_cleanup_cleanup) CURL *easy = curl_easy_init();
	_cleanup_(answer_free_cleanup) struct answer *answer = calloc(1, sizeof(*answer));
	_cleanup_(curl_slist_free_all_cleanup) struct curl_slist *headers = make_headers(question);
	_cleanup_free_ char *url = easy ? make_url(easy, director, question) : NULL;
	struct transfer transfer = { .answer = answer };
	char text[CURL_ERROR_SIZE] = "";
	json_error_t where;
	long status = 0;
	CURLcode code;

	*ret = NULL;
	if (!easy || !answer || !url || !headers)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L); // a name may be ".."
	curl_easy_setopt(easy, CURLOPT_DEFAULT_PROTOCOL, "http");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*"); // the environment's is for the Internet, directors are near
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, question->body ? REQUEST_BODY_TIMEOUT_MS : REQUEST_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "brass/" BRASS_VERSION);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, question->method);
	if (question->body) {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)question->body_len);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, question->body);
	}
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, text);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
	code = curl_easy_perform(easy);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
	if (transfer.too_large)
		return err_set(
			err, -EMSGSIZE, NULL, "%s: the answer is larger than %lu bytes", director, REQUEST_ANSWER_MAX);
	if (code != CURLE_OK)
		return err_set(err, code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO, NULL, "%s: %s", director,
			*text ? text : curl_easy_strerror(code));
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (!question->accept || status != 200)
		answer->json = json_loadb(answer->body ? answer->body : "", answer->len, 0, &where);
	if (status != 200) {
		int rc = refusal(director, status, answer->json, err);

		if (json_is_array(json_object_get(answer->json, "errors")))
			*ret = STEAL(answer);
		return rc;
	}
	if (!question->accept && !json_is_object(answer->json) && !json_is_array(answer->json))
		return err_set(err, -EBADMSG, NULL, "%s: the answer is no JSON object%s%s; is it a director?", director,
			answer->json ? "" : ": ", answer->json ? "" : where.text);
	*ret = STEAL(answer);
	return 0;
}

// --- events as they happen ---

#define LINE_MAX_BYTES 65536
#define SILENCE_S 60L // the director says something every 15

struct following {
	uint64_t *id;
	void (*each)(void *ctx, const char *json);
	void *ctx;
	CURL *easy;
	size_t len;
	char line[LINE_MAX_BYTES]; // what has come of it
};

static void take_line(struct following *f)
{
	f->line[f->len] = '\0';
	f->len = 0;
	if (strncmp(f->line, "id: ", 4) == 0)
		*f->id = strtoull(f->line + 4, NULL, 10);
	else if (strncmp(f->line, "data: ", 6) == 0)
		f->each(f->ctx, f->line + 6);
}

static size_t on_events(char *data, size_t size, size_t count, void *ctx)
{
	struct following *f = ctx;
	long status = 0;

	curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200)
		return 0;
	for (size_t i = 0; i < size * count; i++) {
		if (data[i] == '\n')
			take_line(f);
		else if (f->len == LINE_MAX_BYTES - 1)
			return 0;
		else
			f->line[f->len++] = data[i];
	}
	return size * count;
}

int request_follow(
	const char *director, uint64_t *id, void (*each)(void *ctx, const char *json), void *ctx, struct err *err)
{
	_cleanup_(curl_easy_cleanup_cleanup) CURL *easy = curl_easy_init();
	_cleanup_free_ struct following *f = calloc(1, sizeof(*f));
	char query[60] = "follow=1";
	long status = 0;

	if (*id)
		snprintf(query, sizeof(query), "follow=1&since=%llu", (unsigned long long)*id);
	const struct question question = { .method = "GET", .resource = "events", .query = query };
	_cleanup_free_ char *url = easy ? make_url(easy, director, &question) : NULL;
	if (!easy || !f || !url)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	f->id = id;
	f->each = each;
	f->ctx = ctx;
	f->easy = easy;
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_DEFAULT_PROTOCOL, "http");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, REQUEST_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, SILENCE_S);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "brass/" BRASS_VERSION);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_events);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, f);
	CURLcode code = curl_easy_perform(easy);
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (status && status != 200)
		return refusal(director, status, NULL, err);
	return err_set(err, status == 200 ? -EPIPE : -EIO, NULL, "%s: %s", director,
		code == CURLE_OK ? "the director has ended the connection" : curl_easy_strerror(code));
}

void answer_free(struct answer *answer)
{
	if (!answer)
		return;
	json_decref(answer->json);
	free(answer->body);
	free(answer);
}
