/* SPDX-License-Identifier: MIT */
/*
 * Streams that go by, as rows. Each is fed whole, byte by byte, and cut in two at every place: the
 * verdict must be the same.
 */
#include "farm.h"
#include "proxy/events.h"

#define SSE    "text/event-stream"
#define NDJSON "application/x-ndjson"

struct row {
	const char *why, *type;
	enum stream_end end;
	const char *text;
	enum events_first first;
	bool error, whole;
};

#define A16  "aaaaaaaaaaaaaaaa"
#define A128 A16 A16 A16 A16 A16 A16 A16 A16
#define REAL "data: {\"id\":\"1\",\"choices\":[]}\n\n"
#define LINE "{\"model\":\"m\",\"message\":{\"content\":\"x\"},\"done\":false}\n"
#define MARK "{\"model\":\"m\",\"done\":true}\n"

static const struct row rows[] = {
	/* what is no event yet */
	{"nothing", SSE, STREAM_DONE, "", EVENTS_NOT_YET, false, false},
	{"a comment", SSE, STREAM_DONE, ": ping\n\n", EVENTS_NOT_YET, false, false},
	{"an empty comment", SSE, STREAM_DONE, ":\n\n:\n\n", EVENTS_NOT_YET, false, false},
	{"a comment that looks like data", SSE, STREAM_DONE, ":data: [DONE]\n\n", EVENTS_NOT_YET,
	 false, false},
	{"comments in lines that end with CRLF", SSE, STREAM_DONE, ": ping\r\n\r\n: ping\r\n\r\n",
	 EVENTS_NOT_YET, false, false},
	{"blank lines", SSE, STREAM_DONE, "\n\r\n\n\r\n", EVENTS_NOT_YET, false, false},
	{"fields without data", SSE, STREAM_DONE, "id: 7\nretry: 10\nevent: message\n\n",
	 EVENTS_NOT_YET, false, false},
	{"an event without its blank line", SSE, STREAM_DONE, "data: {\"id\":\"1\"}\n",
	 EVENTS_NOT_YET, false, false},
	{"half a line", SSE, STREAM_DONE, "data: {\"id\":\"1\"", EVENTS_NOT_YET, false, false},
	{"data behind a comment, without its blank line", SSE, STREAM_DONE, ": p\n\ndata: {}\n",
	 EVENTS_NOT_YET, false, false},
	{"blank lines of NDJSON", NDJSON, STREAM_DONE, "\n\r\n \t\n\n", EVENTS_NOT_YET, false,
	 false},
	{"half a line of NDJSON", NDJSON, STREAM_DONE, "{\"model\":\"m\",\"done\":false}",
	 EVENTS_NOT_YET, false, false},

	/* the first event */
	{"an event", SSE, STREAM_DONE, REAL, EVENTS_REAL, false, false},
	{"an event with CRLF", SSE, STREAM_DONE, "data: {\"id\":\"1\"}\r\n\r\n", EVENTS_REAL, false,
	 false},
	{"one behind comments and fields", SSE, STREAM_DONE, ": p\n\nid: 1\ndata: {}\n: p\n\n",
	 EVENTS_REAL, false, false},
	{"without a blank behind the colon", SSE, STREAM_DONE, "data:{\"id\":\"1\"}\n\n",
	 EVENTS_REAL, false, false},
	{"a line longer than what is looked at", SSE, STREAM_DONE, "data: {\"x\":\"" A128 "\"}\n\n",
	 EVENTS_REAL, false, false},
	{"a line", NDJSON, STREAM_DONE, LINE, EVENTS_REAL, false, false},
	{"a line with CRLF behind a blank one", NDJSON, STREAM_DONE,
	 "\r\n{\"model\":\"m\",\"done\":false}\r\n", EVENTS_REAL, false, false},
	{"[DONE] alone is an answer", SSE, STREAM_DONE, "data: [DONE]\n\n", EVENTS_REAL, false,
	 true},

	/* errors instead of it */
	{"SGLang: a full queue", SSE, STREAM_DONE,
	 "data: {\"error\": {\"object\": \"error\", \"message\": \"The request queue is "
	 "full.\"}}\n\n",
	 EVENTS_ERROR, true, false},
	{"without blanks", SSE, STREAM_DONE, "data:{\"error\":{\"code\":503}}\n\n", EVENTS_ERROR,
	 true, false},
	{"many blanks", SSE, STREAM_DONE, "data:      { \t\"error\" : \"full\"}\n\n", EVENTS_ERROR,
	 true, false},
	{"behind comments", SSE, STREAM_DONE, ": p\n\n\ndata: {\"error\":{}}\n\n", EVENTS_ERROR,
	 true, false},
	{"Anthropic's", SSE, STREAM_MESSAGE_STOP,
	 "event: error\ndata: {\"type\":\"error\",\"error\":{}}\n\n", EVENTS_ERROR, true, false},
	{"Anthropic's without a name", SSE, STREAM_MESSAGE_STOP,
	 "data: {\"type\": \"error\", \"error\": {}}\n\n", EVENTS_ERROR, true, false},
	{"a named event of any shape", SSE, STREAM_DONE, "event: error\ndata: busy\n\n",
	 EVENTS_ERROR, true, false},
	{"old llama.cpp: a field of its own, and an end", SSE, STREAM_DONE,
	 "error: {\"code\":500,\"message\":\"x\"}\n\ndata: [DONE]\n\n", EVENTS_ERROR, true, true},
	{"old vLLM: an object of that name, and an end", SSE, STREAM_DONE,
	 "data: {\"object\": \"error\", \"message\": \"x\"}\n\ndata: [DONE]\n\n", EVENTS_ERROR,
	 true, true},
	{"as soon as its line is there", SSE, STREAM_DONE, "data: {\"error\":{}}\r\n", EVENTS_ERROR,
	 true, false},
	{"but not before", SSE, STREAM_DONE, "data: {\"error\":{}}", EVENTS_NOT_YET, false, false},
	{"Ollama's", NDJSON, STREAM_DONE, "{\"error\":\"server busy\"}\n", EVENTS_ERROR, true,
	 false},
	{"Ollama's with blanks", NDJSON, STREAM_DONE, " { \"error\" : \"busy\" }\r\n", EVENTS_ERROR,
	 true, false},

	/* what is no error */
	{"an error that is null", SSE, STREAM_DONE, "data: {\"error\":null,\"id\":\"1\"}\n\n",
	 EVENTS_REAL, false, false},
	{"null with blanks", SSE, STREAM_DONE, "data: { \"error\" : null }\n\n", EVENTS_REAL, false,
	 false},
	{"Ollama's null", NDJSON, STREAM_DONE, "{\"error\": null,\"done\":true}\n", EVENTS_REAL,
	 false, true},
	{"the word in an answer", SSE, STREAM_DONE,
	 "data: {\"delta\":\"{\\\"error\\\":1}\",\"x\":{\"error\":1}}\n\n", EVENTS_REAL, false,
	 false},
	{"another event of a longer name", SSE, STREAM_DONE, "data: {\"errors\":[]}\n\n",
	 EVENTS_REAL, false, false},
	{"an error's name as data", SSE, STREAM_DONE, "data: error\n\n", EVENTS_REAL, false, false},

	/* errors behind it */
	{"an error in the middle", SSE, STREAM_DONE, REAL "data: {\"error\":{}}\n\n", EVENTS_REAL,
	 true, false},
	{"an error in the middle of NDJSON", NDJSON, STREAM_DONE, LINE "{\"error\":\"x\"}\n",
	 EVENTS_REAL, true, false},

	/* the mark of the end: OpenAI */
	{"[DONE]", SSE, STREAM_DONE, REAL "data: [DONE]\n\n", EVENTS_REAL, false, true},
	{"[DONE] without a blank", SSE, STREAM_DONE, REAL "data:[DONE]\n\n", EVENTS_REAL, false,
	 true},
	{"[DONE] with CRLF", SSE, STREAM_DONE, REAL "data: [DONE]\r\n\r\n", EVENTS_REAL, false,
	 true},
	{"[DONE] without its blank line", SSE, STREAM_DONE, REAL "data: [DONE]\n", EVENTS_REAL,
	 false, true},
	{"[DONE] without the end of its line", SSE, STREAM_DONE, REAL "data: [DONE]", EVENTS_REAL,
	 false, true},
	{"half of [DONE]", SSE, STREAM_DONE, REAL "data: [DONE", EVENTS_REAL, false, false},
	{"comments behind it", SSE, STREAM_DONE, REAL "data: [DONE]\n\n: bye\n\n", EVENTS_REAL,
	 false, true},
	{"[DONE] in a string", SSE, STREAM_DONE, "data: {\"delta\":\"data: [DONE]\"}\n\n",
	 EVENTS_REAL, false, false},
	{"[DONE] in a field of another name", SSE, STREAM_DONE, REAL "id: [DONE]\n\n", EVENTS_REAL,
	 false, false},
	{"done as the finish_reason", SSE, STREAM_DONE,
	 "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n", EVENTS_REAL, false, false},
	{"Ollama's mark in SSE", SSE, STREAM_DONE, "data: {\"done\":true}\n\n", EVENTS_REAL, false,
	 false},

	/* Anthropic */
	{"message_stop", SSE, STREAM_MESSAGE_STOP,
	 "event: message_start\ndata: {}\n\nevent: message_stop\ndata: "
	 "{\"type\":\"message_stop\"}\n\n",
	 EVENTS_REAL, false, true},
	{"message_stop by name only", SSE, STREAM_MESSAGE_STOP,
	 REAL "event:message_stop\ndata:\n\n", EVENTS_REAL, false, true},
	{"message_stop by type only", SSE, STREAM_MESSAGE_STOP,
	 REAL "data: {\"type\": \"message_stop\"}\n\n", EVENTS_REAL, false, true},
	{"message_delta is none", SSE, STREAM_MESSAGE_STOP,
	 REAL "event: message_delta\ndata: {\"type\":\"message_delta\"}\n\n", EVENTS_REAL, false,
	 false},
	{"[DONE] is none there", SSE, STREAM_MESSAGE_STOP, REAL "data: [DONE]\n\n", EVENTS_REAL,
	 false, false},
	{"message_stop in a string", SSE, STREAM_MESSAGE_STOP,
	 "data: {\"text\":\"event: message_stop\"}\n\n", EVENTS_REAL, false, false},

	/* responses */
	{"completed", SSE, STREAM_RESPONSE, REAL "event: response.completed\ndata: {}\n\n",
	 EVENTS_REAL, false, true},
	{"incomplete", SSE, STREAM_RESPONSE, REAL "event: response.incomplete\ndata: {}\n\n",
	 EVENTS_REAL, false, true},
	{"failed", SSE, STREAM_RESPONSE, REAL "event: response.failed\ndata: {}\n\n", EVENTS_REAL,
	 false, true},
	{"completed, by type only", SSE, STREAM_RESPONSE,
	 REAL "data: {\"type\": \"response.completed\",\"response\":{}}\n\n", EVENTS_REAL, false,
	 true},
	{"incomplete, by type only", SSE, STREAM_RESPONSE,
	 REAL "data: {\"type\":\"response.incomplete\"}\n\n", EVENTS_REAL, false, true},
	{"failed, by type only", SSE, STREAM_RESPONSE,
	 REAL "data: {\"type\":\"response.failed\"}\n\n", EVENTS_REAL, false, true},
	{"[DONE] there too", SSE, STREAM_RESPONSE, REAL "data: [DONE]\n\n", EVENTS_REAL, false,
	 true},
	{"a part that is complete is none", SSE, STREAM_RESPONSE,
	 REAL "event: response.output_item.done\ndata: {}\n\n", EVENTS_REAL, false, false},

	/* Ollama */
	{"done", NDJSON, STREAM_DONE, LINE MARK, EVENTS_REAL, false, true},
	{"done, and blank lines", NDJSON, STREAM_DONE, LINE MARK "\n\r\n", EVENTS_REAL, false,
	 true},
	{"done, with blanks", NDJSON, STREAM_DONE, LINE "{ \"done\" \t:  true }\n", EVENTS_REAL,
	 false, true},
	{"done, first", NDJSON, STREAM_DONE, "{\"done\":true,\"context\":[1,[2],{\"a\":\"]\"}]}\n",
	 EVENTS_REAL, false, true},
	{"done, before a long tail", NDJSON, STREAM_DONE,
	 LINE "{\"model\":\"m\",\"done\":true,\"x\":\"" A128 A128 "\"}\n", EVENTS_REAL, false,
	 true},
	{"done, behind a long beginning", NDJSON, STREAM_DONE,
	 LINE "{\"x\":\"" A128 A128 "\",\"y\":[" A128 "],\"done\":true}\n", EVENTS_REAL, false,
	 true},
	{"done, without the end of its line", NDJSON, STREAM_DONE, LINE "{\"done\":true}",
	 EVENTS_REAL, false, true},
	{"done, cut off behind it", NDJSON, STREAM_DONE, LINE "{\"done\":true,\"context\":[1,2",
	 EVENTS_REAL, false, false},
	{"not done", NDJSON, STREAM_DONE, LINE LINE, EVENTS_REAL, false, false},
	{"half of the mark", NDJSON, STREAM_DONE, LINE "{\"done\":tru", EVENTS_REAL, false, false},
	{"lines behind the mark", NDJSON, STREAM_DONE, MARK LINE, EVENTS_REAL, false, false},
	{"an error behind the mark", NDJSON, STREAM_DONE, MARK "{\"error\":\"x\"}\n", EVENTS_REAL,
	 true, false},
	{"the mark in a string", NDJSON, STREAM_DONE,
	 "{\"response\":\"\\\"done\\\":true\",\"done\":false}\n", EVENTS_REAL, false, false},
	{"the mark in a string, behind a backslash", NDJSON, STREAM_DONE,
	 "{\"response\":\"\\\\\\\"done\\\":true\",\"done\":false}\n", EVENTS_REAL, false, false},
	{"a backslash at the end of a string before it", NDJSON, STREAM_DONE,
	 LINE "{\"response\":\"\\\\\",\"done\":true}\n", EVENTS_REAL, false, true},
	{"brackets in a string before it", NDJSON, STREAM_DONE,
	 LINE "{\"response\":\"{[\\\"{\",\"done\":true}\n", EVENTS_REAL, false, true},
	{"the mark in a tool call", NDJSON, STREAM_DONE,
	 "{\"message\":{\"tool_calls\":[{\"function\":{\"arguments\":{\"done\":true}}}]},"
	 "\"done\":false}\n",
	 EVENTS_REAL, false, false},
	{"a value of that name", NDJSON, STREAM_DONE, "{\"x\":\"done\",\"y\":true}\n", EVENTS_REAL,
	 false, false},
	{"a name that ends so", NDJSON, STREAM_DONE, "{\"undone\":true,\"done \":true}\n",
	 EVENTS_REAL, false, false},
	{"a name with an escape", NDJSON, STREAM_DONE, "{\"\\\"done\":true,\"don\\e\":true}\n",
	 EVENTS_REAL, false, false},
	{"a string that is cut does not reach into the next line", NDJSON, STREAM_DONE,
	 "{\"x\":\"\n" MARK, EVENTS_REAL, false, true},
	{"the mark is not made of two lines", NDJSON, STREAM_DONE, "{\"done\":\ntrue}\n",
	 EVENTS_REAL, false, false},

	/* what has no mark */
	{"other paths: SSE", SSE, STREAM_ANY, REAL, EVENTS_REAL, false, true},
	{"other paths: NDJSON", NDJSON, STREAM_ANY, LINE, EVENTS_REAL, false, true},
	{"one document", "application/json", STREAM_DONE, "{\"error\":1}", EVENTS_REAL, false,
	 true},
	{"no type", NULL, STREAM_DONE, "x", EVENTS_REAL, false, true},
};

static void judge(const struct row *row, const struct events *events, const char *how, size_t at)
{
	if (events->first != row->first)
		fail_msg("%s, %s %zu: first %d", row->why, how, at, (int)events->first);
	if (events->error != row->error)
		fail_msg("%s, %s %zu: error %d", row->why, how, at, events->error);
	if (events_whole(events) != row->whole)
		fail_msg("%s, %s %zu: whole %d", row->why, how, at, !row->whole);
}

/* The piece is copied to memory of its own length, so that a sanitizer sees whoever reads on. */
static void feed(struct events *events, const char *data, size_t len)
{
	char *copy = malloc(len ? len : 1);

	memcpy(copy, data, len);
	events_feed(events, copy, len);
	free(copy);
}

static void test_events__say_the_same_however_they_are_cut(void **state)
{
	(void)state;
	for (size_t r = 0; r < COUNT(rows); r++) {
		const struct row *row = &rows[r];
		size_t len = strlen(row->text);
		struct events events;

		events_init(&events, row->type, row->end);
		feed(&events, row->text, len);
		judge(row, &events, "whole", len);
		events_init(&events, row->type, row->end);
		for (size_t i = 0; i < len; i++)
			feed(&events, row->text + i, 1);
		judge(row, &events, "byte by byte", len);
		for (size_t at = 0; at <= len; at++) {
			events_init(&events, row->type, row->end);
			feed(&events, row->text, at);
			feed(&events, row->text + at, len - at);
			judge(row, &events, "cut at", at);
		}
	}
}

/* What ends a line matters to whoever appends an error event. */
static const struct {
	const char *why, *type, *text;
	bool line, event;
} ends[] = {
	{"nothing", SSE, "", false, false},
	{"between events", SSE, REAL, false, false},
	{"in a line", SSE, REAL "data: {", true, false},
	{"in an event", SSE, REAL "data: {}\n", false, true},
	{"in its second line", SSE, REAL "event: x\ndata: {", true, true},
	{"in a blank line of CRLF", SSE, "data: {}\r\n\r", true, true},
	{"behind one", SSE, "data: {}\r\n\r\n", false, false},
	{"behind a comment", SSE, ": ping\n", false, false},
	{"in a comment", SSE, ": pi", true, false},
	{"in a line of NDJSON", NDJSON, LINE "{\"model\"", true, false},
	{"between lines of NDJSON", NDJSON, LINE, false, false},
};

static void test_events__know_where_the_stream_stands(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(ends); i++) {
		struct events events;

		events_init(&events, ends[i].type, STREAM_DONE);
		feed(&events, ends[i].text, strlen(ends[i].text));
		if (events.line_begun != ends[i].line || events.event_begun != ends[i].event)
			fail_msg("%s: line %d, event %d", ends[i].why, events.line_begun,
				 events.event_begun);
	}
}

static const struct {
	const char *type;
	enum events_kind kind;
} types[] = {
	{NULL, EVENTS_NONE},
	{"", EVENTS_NONE},
	{"text/event-stream", EVENTS_SSE},
	{"Text/Event-Stream; charset=utf-8", EVENTS_SSE},
	{"text/event-stream;charset=utf-8", EVENTS_SSE},
	{"text/event-streams", EVENTS_NONE},
	{"text/event", EVENTS_NONE},
	{"application/x-ndjson", EVENTS_NDJSON},
	{"application/x-ndjson ; charset=utf-8", EVENTS_NDJSON},
	{"application/json", EVENTS_NONE},
};

static void test_events__know_streams_by_their_type(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(types); i++) {
		struct events events;

		events_init(&events, types[i].type, STREAM_DONE);
		if (events.kind != types[i].kind)
			fail_msg("%s", types[i].type);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events__say_the_same_however_they_are_cut),
		cmocka_unit_test(test_events__know_where_the_stream_stands),
		cmocka_unit_test(test_events__know_streams_by_their_type),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
