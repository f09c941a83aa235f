// SPDX-License-Identifier: Apache-2.0
// Answers: a text that is there, or a stream that is made piece by piece while it is sent.
#include "director/http_internal.h"

#include "shared/util.h"

#include <stdlib.h>
#include <string.h>

#define STREAM_BLOCK (32u << 10) // bytes of a stream that are made before others get their turn,
#define STREAM_SLICE_MS 1        // or as many as are made in this time

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct stream *stream = cls;

	(void)pos;
	if (stream->taken == stream->out.len) {
		const msec_t until = clock_now_ms() + STREAM_SLICE_MS;

		stream->taken = stream->out.len = 0;
		do
			stream->over = stream->over || !stream->stream.next(stream->stream.ctx, &stream->out);
		while (!stream->over &&
			(!stream->out.len || (stream->out.len < STREAM_BLOCK && clock_now_ms() < until)) &&
			!stream->stream.live);
	}
	if (stream->out.failed)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	size_t n = stream->out.len - stream->taken;
	if (!n && !stream->over) { // MHD asks again when it is resumed
		stream->request->suspended = true;
		MHD_suspend_connection(stream->request->connection);
		return 0;
	}
	if (!n)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n > max)
		n = max;
	memcpy(buf, stream->out.text + stream->taken, n);
	stream->taken += n;
	return (ssize_t)n;
}

void request_free_stream(void *cls)
{
	struct stream *stream = cls;

	if (!stream)
		return;
	stream->stream.free(stream->stream.ctx);
	out_free(&stream->out);
	free(stream);
}

static struct MHD_Response *make_response(struct request *request)
{
	if (request->stream)
		return MHD_create_response_from_callback(
			MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, request->stream, request_free_stream);
	return MHD_create_response_from_buffer(request->answer_len, request->answer, MHD_RESPMEM_MUST_FREE);
}

enum MHD_Result request_queue_answer(struct request *request)
{
	struct MHD_Response *response = make_response(request);

	if (!response)
		return MHD_NO;
	request->answer = NULL;
	if (request->answer_len || request->stream)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, request->content_type);
	request->stream = NULL;
	if (request->allow)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, request->allow);
	enum MHD_Result ret = MHD_queue_response(request->connection, request->status, response);

	MHD_destroy_response(response);
	return ret;
}

void http_answer_text(
	struct http_exchange *exchange, unsigned int status, const char *content_type, char *text, size_t len)
{
	struct request *request = request_of(exchange);

	if (request->status) {
		free(text);
		return; // answered before
	}
	request->status = status;
	request_undefer(request);
	request->answer = text;
	request->answer_len = len;
	request->content_type = content_type;
	http_wake(exchange);
}

void http_answer_out(struct http_exchange *exchange, unsigned int status, struct out *out)
{
	size_t len;

	out_bytes(out, "\n", 1);
	char *text = out_steal(out, &len);
	http_answer_text(
		exchange, text ? status : MHD_HTTP_INTERNAL_SERVER_ERROR, "application/json", text, text ? len : 0);
}

void http_answer_stream(struct http_exchange *exchange, const struct http_stream *given)
{
	struct request *request = request_of(exchange);
	struct stream *stream = request->status ? NULL : calloc(1, sizeof(*stream));

	if (!stream) {
		given->free(given->ctx);
		http_answer_text(exchange, MHD_HTTP_INTERNAL_SERVER_ERROR, "", NULL, 0);
		return;
	}
	stream->stream = *given;
	stream->request = request;
	stream->over = !given->next(given->ctx, &stream->out);
	if (!stream->over) {
		request->stream = stream;
		http_answer_text(exchange, MHD_HTTP_OK, given->content_type, NULL, 0);
		return;
	}
	// one piece is the whole
	size_t len;
	char *text = out_steal(&stream->out, &len);
	http_answer_text(exchange, text ? MHD_HTTP_OK : MHD_HTTP_INTERNAL_SERVER_ERROR, given->content_type, text,
		text ? len : 0);
	request_free_stream(stream);
}

void http_answer(struct http_exchange *exchange, unsigned int status, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	size_t len = text ? strlen(text) : 0;

	json_decref(json);
	if (text)
		text[len++] = '\n'; // over the final zero: MHD counts bytes
	http_answer_text(exchange, status, "application/json", text, len);
}

void http_answer_error(struct http_exchange *exchange, unsigned int status, const struct err *err)
{
	json_t *json = json_pack("{s:s}", "error", err->text);

	if (json && *err->field)
		json_object_set_new(json, "field", json_string(err->field));
	if (!json) // text from the kernel or the client that is not UTF-8
		json = json_pack("{s:s}", "error", "the request was refused");
	http_answer(exchange, status, json);
}

void request_answer_text(struct request *request, unsigned int status, const char *text)
{
	struct err err = { 0 };

	err_set(&err, 0, NULL, "%s", text);
	http_answer_error(&request->exchange, status, &err);
}
