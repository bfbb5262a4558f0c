/* SPDX-License-Identifier: MIT */
/*
 * Bodies for test_scan.c, each with a sentence and what comes of it: "! error @offset" when it is
 * refused, else what was found: `model RAW = DECODED` (`model RAW` when it is no string), `name`
 * likewise, `stream yes` or `stream no`, with "; " between.
 */
#ifndef TESTS_SCAN_ROWS_H
#define TESTS_SCAN_ROWS_H

#include <stddef.h>

struct row {
	const char *sentence;
	const char *bytes;
	size_t len;
	const char *seen;
};

#define X(sentence, bytes, seen) \
	{ \
		sentence, bytes, sizeof(bytes) - 1, seen \
	}

#define NOT_OBJECT  "! not a JSON object (which begins with {, without a BOM) @"
#define BEHIND	    "! text behind the JSON object @"
#define NO_KEY	    "! no key in double quotes where one is expected @"
#define NO_COLON    "! no colon behind a key @"
#define NO_VALUE    "! no value where one is expected @"
#define NO_COMMA    "! neither a comma nor the end where one is expected @"
#define BAD_NUMBER  "! a malformed number @"
#define BAD_LITERAL "! neither true, false nor null @"
#define CONTROL	    "! a control character in a string @"
#define BAD_UTF8    "! a string is not valid UTF-8 @"
#define BAD_ESCAPE  "! an unknown escape in a string @"
#define BAD_HEX	    "! \\u without four hexadecimal digits @"
#define HALF	    "! half of a surrogate pair in a string @"
#define ZERO	    "! \\u0000 in a string @"
#define NO_END	    "! the JSON object does not end @"
#define EMPTY	    "! the body is empty @"
#define TWICE(key)  "! \"" key "\" is given twice @"
#define ODD(key)    "! a key is \"" key "\" but for its case @"

static const struct row rows[] = {
	/* where the model is found */
	X("a model", "{\"model\":\"llama3\"}", "model \"llama3\" = llama3"),
	X("all that is looked for", "{\"model\":\"a\",\"name\":\"b\",\"stream\":true}",
	  "model \"a\" = a; name \"b\" = b; stream yes"),
	X("in any order", "{\"stream\":false,\"name\":\"b\",\"model\":\"a\"}",
	  "model \"a\" = a; name \"b\" = b; stream no"),
	X("space of all four kinds everywhere",
	  " \t\r\n{ \"model\"\t:\r\"a\"\n, \"x\" : [ ] , \"y\" : { } } \t\r\n", "model \"a\" = a"),
	X("an empty object names none", "{}", ""),
	X("an empty name is a name", "{\"model\":\"\"}", "model \"\" = "),
	X("a model in an object within is not the model", "{\"a\":{\"model\":\"b\"}}", ""),
	X("nor one in an array", "{\"a\":[\"model\",{\"model\":\"b\"}]}", ""),
	X("nor one in a string", "{\"a\":\"\\\"model\\\":\\\"b\\\"\"}", ""),
	X("nor the word as a value", "{\"a\":\"model\",\"b\":1}", ""),
	X("the one within does not hide the one without",
	  "{\"a\":{\"model\":\"b\"},\"model\":\"c\",\"d\":[{\"model\":1}]}", "model \"c\" = c"),
	X("a key that begins as model does", "{\"models\":1,\"mode\":2,\"model \":3,\"\":4}", ""),
	X("a long key that begins as stream does", "{\"stream_options\":{\"stream\":1}}", ""),
	X("behind a nested one the level is the top again", "{\"a\":[[[]]],\"model\":\"c\"}",
	  "model \"c\" = c"),

	/* model that is no string */
	X("a model that is null", "{\"model\":null}", "model null"),
	X("a model that is a number", "{\"model\": -1.5e3 }", "model -1.5e3"),
	X("a model that is true", "{\"model\":true}", "model true"),
	X("a model that is an object", "{\"model\":{\"model\":\"a\"} }", "model {\"model\":\"a\"}"),
	X("a model that is an array", "{\"model\":[\"a\",[1]],\"name\":[]}",
	  "model [\"a\",[1]]; name []"),

	/* stream */
	X("no stream that is a number", "{\"stream\":0}", "stream yes"),
	X("a stream that is a string is not false", "{\"stream\":\"false\"}", "stream yes"),
	X("stream within does not count", "{\"a\":{\"stream\":true}}", ""),

	/* decoding */
	X("an escaped key is the key", "{\"mod\\u0065l\":\"a\"}", "model \"a\" = a"),
	X("all of it escaped", "{\"\\u006d\\u006F\\u0064\\u0065\\u006C\":\"a\"}",
	  "model \"a\" = a"),
	X("the short escapes", "{\"model\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}",
	  "model \"\\\"\\\\\\/\\b\\f\\n\\r\\t\" = \"\\/\b\f\n\r\t"),
	X("hexadecimal digits in either case", "{\"model\":\"\\u00e9\\u00C9\\uaBcD\"}",
	  "model \"\\u00e9\\u00C9\\uaBcD\" = \xc3\xa9\xc3\x89\xea\xaf\x8d"),
	X("the edges of UTF-8's lengths, escaped",
	  "{\"model\":\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"}",
	  "model \"\\u007f\\u0080\\u07ff\\u0800\\uffff\" = "
	  "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"),
	X("the same, plain", "{\"model\":\"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\"}",
	  "model \"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\" = "
	  "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"),
	X("a surrogate pair is one character", "{\"model\":\"\\ud83d\\uDE00\"}",
	  "model \"\\ud83d\\uDE00\" = \xf0\x9f\x98\x80"),
	X("the first and the last pair", "{\"model\":\"\\ud800\\udc00\\udbff\\udfff\"}",
	  "model \"\\ud800\\udc00\\udbff\\udfff\" = \xf0\x90\x80\x80\xf4\x8f\xbf\xbf"),
	X("characters of two, three and four bytes between others",
	  "{\"model\":\"a\xc3\xa9z\xe2\x82\xac"
	  "b\xf0\x9f\x98\x80"
	  "c\"}",
	  "model \"a\xc3\xa9z\xe2\x82\xac"
	  "b\xf0\x9f\x98\x80"
	  "c\" = "
	  "a\xc3\xa9z\xe2\x82\xac"
	  "b\xf0\x9f\x98\x80"
	  "c"),

	/* given twice */
	X("two models", "{\"model\":\"a\",\"model\":\"a\"}", TWICE("model") "19"),
	X("two models, the second one escaped", "{\"model\":\"a\",\"mod\\u0065l\":\"b\"}",
	  TWICE("model") "24"),
	X("two models, the first one escaped", "{\"\\u006dodel\":1,\"model\":2}",
	  TWICE("model") "22"),
	X("two models far apart", "{\"model\":\"a\",\"b\":[{\"c\":1}],\"model\":\"a\"}",
	  TWICE("model") "33"),
	X("two streams", "{\"stream\":true,\"stream\":false}", TWICE("stream") "22"),
	X("two names", "{\"name\":\"a\",\"nam\\u0065\":\"a\"}", TWICE("name") "22"),
	X("another key may come twice", "{\"a\":1,\"a\":2}", ""),
	X("two models within are not ours", "{\"a\":{\"model\":1,\"model\":2}}", ""),

	/* keys that Go takes for ours */
	X("MODEL is model to Ollama", "{\"model\":\"a\",\"MODEL\":\"b\"}", ODD("model") "19"),
	X("also alone", "{\"Model\":\"a\"}", ODD("model") "7"),
	X("also escaped", "{\"\\u004dodel\":\"a\"}", ODD("model") "12"),
	X("Stream likewise", "{\"strEam\":true}", ODD("stream") "8"),
	X("with a long s, which folds to s", "{\"\xc5\xbftream\":true}", ODD("stream") "9"),
	X("with an escaped long s", "{\"\\u017ftREAM\":true}", ODD("stream") "13"),
	X("Name likewise", "{\"NAME\":\"a\"}", ODD("name") "6"),
	X("a longer key with a long s", "{\"\xc5\xbftreams\":1}", ""),
	X("a long s elsewhere is no s",
	  "{\"\xc5\xbfmodel\":1,\"\xc5\xbe"
	  "tream\":2}",
	  ""),
	X("another case within is not ours", "{\"a\":{\"Model\":1}}", ""),

	/* what is no object */
	X("nothing", "", EMPTY "0"),
	X("only space", " \r\n", EMPTY "3"),
	X("an array", "[]", NOT_OBJECT "0"),
	X("a string", "\"model\"", NOT_OBJECT "0"),
	X("null", "null", NOT_OBJECT "0"),
	X("a form", "model=a", NOT_OBJECT "0"),
	X("a byte order mark", "\xef\xbb\xbf{}", NOT_OBJECT "0"),
	X("a byte order mark behind space", " \xef\xbb\xbf{}", NOT_OBJECT "1"),
	X("UTF-16", "{\0\"\0", NO_KEY "1"),
	X("a comment", "/* */{}", NOT_OBJECT "0"),
	X("a form feed is no space", "\f{}", NOT_OBJECT "0"),
	X("a no-break space is none", "\xc2\xa0{}", NOT_OBJECT "0"),

	/* behind it */
	X("two objects", "{}{}", BEHIND "2"),
	X("two objects on two lines", "{}\n{}", BEHIND "3"),
	X("a comma behind", "{},", BEHIND "2"),
	X("a NUL behind", "{}\0", BEHIND "2"),
	X("a brace too many", "{}}", BEHIND "2"),
	X("a comment behind", "{} // x", BEHIND "3"),

	/* structure */
	X("no end", "{", NO_END "1"),
	X("no end of an object within", "{\"a\":{}", NO_END "7"),
	X("no end of a string", "{\"a\":\"b}", NO_END "8"),
	X("the end within an escape", "{\"a\":\"\\u00", NO_END "10"),
	X("the end within a character", "{\"a\":\"\xe2\x82", NO_END "8"),
	X("the end within a literal", "{\"a\":tru", NO_END "8"),
	X("the end behind a number", "{\"a\":1", NO_END "6"),
	X("a comma before the end", "{\"a\":1,}", NO_KEY "7"),
	X("a comma before the first", "{,\"a\":1}", NO_KEY "1"),
	X("two commas", "{\"a\":1,,\"b\":1}", NO_KEY "7"),
	X("a comma before an array's end", "{\"a\":[1,]}", NO_VALUE "8"),
	X("a comma first in an array", "{\"a\":[,1]}", NO_VALUE "6"),
	X("no comma", "{\"a\":1 \"b\":2}", NO_COMMA "7"),
	X("no comma in an array", "{\"a\":[1 2]}", NO_COMMA "8"),
	X("no colon", "{\"a\" 1}", NO_COLON "5"),
	X("no value", "{\"a\":}", NO_VALUE "5"),
	X("no value, but a comma", "{\"a\":,\"b\":1}", NO_VALUE "5"),
	X("two colons", "{\"a\"::1}", NO_VALUE "5"),
	X("a key without a value", "{\"a\"}", NO_COLON "4"),
	X("a key without quotes", "{a:1}", NO_KEY "1"),
	X("a key in single quotes", "{'a':1}", NO_KEY "1"),
	X("a key that is a number", "{1:1}", NO_KEY "1"),
	X("a string in single quotes", "{\"a\":'b'}", NO_VALUE "5"),
	X("an object closed as an array", "{\"a\":1]", NO_COMMA "6"),
	X("an array closed as an object", "{\"a\":[1}", NO_COMMA "7"),
	X("an empty object closed as an array", "{]", NO_KEY "1"),
	X("an empty array closed as an object", "{\"a\":[}", NO_VALUE "6"),
	X("a colon in an array", "{\"a\":[\"b\":1]}", NO_COMMA "9"),
	X("a NUL between tokens", "{\"a\":\0001}", NO_VALUE "5"),
	X("a comment within", "{\"a\":/**/1}", NO_VALUE "5"),

	/* literals */
	X("all three literals", "{\"a\":[true,false,null]}", ""),
	X("a literal in capitals", "{\"a\":True}", NO_VALUE "5"),
	X("a literal that ends in capitals", "{\"a\":tRUE}", BAD_LITERAL "6"),
	X("a literal cut short", "{\"a\":nul}", BAD_LITERAL "8"),
	X("a literal too long", "{\"a\":truee}", NO_COMMA "9"),
	X("two literals at once", "{\"a\":nulltrue}", NO_COMMA "9"),
	X("undefined", "{\"a\":undefined}", NO_VALUE "5"),
	X("NaN", "{\"a\":NaN}", NO_VALUE "5"),
	X("Infinity", "{\"a\":Infinity}", NO_VALUE "5"),
	X("minus Infinity", "{\"a\":-Infinity}", BAD_NUMBER "6"),

	/* numbers */
	X("numbers of all forms",
	  "{\"a\":[0,-0,1,10,-12,0.5,-0.50,1e1,1E+1,1e-01,0e0,0.0e-0,12.34e56]}", ""),
	X("all digits everywhere", "{\"a\":[1234567890,9.0123456789e9876543210,-9]}", ""),
	X("a leading zero", "{\"a\":01}", NO_COMMA "6"),
	X("a leading zero behind a minus", "{\"a\":-01}", NO_COMMA "7"),
	X("a plus", "{\"a\":+1}", NO_VALUE "5"),
	X("a minus alone", "{\"a\":-}", BAD_NUMBER "6"),
	X("two minuses", "{\"a\":--1}", BAD_NUMBER "6"),
	X("no digit before the point", "{\"a\":.5}", NO_VALUE "5"),
	X("no digit behind the point", "{\"a\":1.}", BAD_NUMBER "7"),
	X("an exponent behind the bare point", "{\"a\":1.e1}", BAD_NUMBER "7"),
	X("two points", "{\"a\":1.2.3}", NO_COMMA "8"),
	X("no digit in the exponent", "{\"a\":1e}", BAD_NUMBER "7"),
	X("no digit behind its sign", "{\"a\":1e+}", BAD_NUMBER "8"),
	X("two signs in the exponent", "{\"a\":1e+-1}", BAD_NUMBER "8"),
	X("a point in the exponent", "{\"a\":1e1.5}", NO_COMMA "8"),
	X("two exponents", "{\"a\":1e1e1}", NO_COMMA "8"),
	X("hexadecimal", "{\"a\":0x10}", NO_COMMA "6"),
	X("a separator", "{\"a\":1_0}", NO_COMMA "6"),
	X("a space within", "{\"a\":1 0}", NO_COMMA "7"),
	X("a letter behind", "{\"a\":1f}", NO_COMMA "6"),

	/* strings */
	X("a line feed in a string", "{\"a\":\"b\nc\"}", CONTROL "7"),
	X("a tab in a string", "{\"a\":\"b\tc\"}", CONTROL "7"),
	X("a NUL in a string", "{\"a\":\"b\0c\"}", CONTROL "7"),
	X("a NUL in a key", "{\"model\0\":\"c\"}", CONTROL "7"),
	X("the last control character", "{\"a\":\"\x1f\"}", CONTROL "6"),
	X("DEL is none", "{\"a\":\"\x7f\"}", ""),
	X("an unknown escape", "{\"a\":\"\\a\"}", BAD_ESCAPE "7"),
	X("an escaped single quote", "{\"a\":\"\\'\"}", BAD_ESCAPE "7"),
	X("\\U in capitals", "{\"a\":\"\\U0041\"}", BAD_ESCAPE "7"),
	X("\\x", "{\"a\":\"\\x41\"}", BAD_ESCAPE "7"),
	X("an escaped NUL byte", "{\"a\":\"\\\0\"}", BAD_ESCAPE "7"),
	X("an escaped line feed", "{\"a\":\"\\\n\"}", BAD_ESCAPE "7"),
	X("three hexadecimal digits", "{\"a\":\"\\u041\"}", BAD_HEX "11"),
	X("a digit beyond f", "{\"a\":\"\\u004g\"}", BAD_HEX "11"),
	X("a digit before a, by one bit", "{\"a\":\"\\u004@\"}", BAD_HEX "11"),
	X("a digit that is none but for one bit", "{\"a\":\"\\u00\x11\x12\"}", BAD_HEX "10"),
	X("u in braces", "{\"a\":\"\\u{41}\"}", BAD_HEX "8"),
	X("\\u0000", "{\"a\":\"\\u0000\"}", ZERO "11"),
	X("\\u0000 in a key, where others would end it", "{\"model\\u0000\":\"a\"}", ZERO "12"),
	X("\\u0000 far within", "{\"a\":[{\"b\":\"\\u0000\"}]}", ZERO "17"),
	X("\\u0001 is allowed", "{\"model\":\"\\u0001\"}", "model \"\\u0001\" = \x01"),

	/* surrogates */
	X("a high one alone", "{\"a\":\"\\ud83d\"}", HALF "12"),
	X("a high one before a character", "{\"a\":\"\\ud83dx\"}", HALF "12"),
	X("a high one before another escape", "{\"a\":\"\\ud83d\\n\"}", HALF "13"),
	X("a high one before a high one", "{\"a\":\"\\ud83d\\ud83d\"}", HALF "17"),
	X("a high one before another character", "{\"a\":\"\\udbff\\ue000\"}", HALF "17"),
	X("a high one before \\u0000", "{\"a\":\"\\ud83d\\u0000\"}", HALF "17"),
	X("a low one alone", "{\"a\":\"\\ude00\"}", HALF "11"),
	X("a low one behind a pair", "{\"a\":\"\\ud83d\\ude00\\ude00\"}", HALF "23"),
	X("a lone one in a key within", "{\"a\":{\"\\udfff\":1}}", HALF "12"),
	X("their neighbours are characters", "{\"model\":\"\\ud7ff\\ue000\"}",
	  "model \"\\ud7ff\\ue000\" = \xed\x9f\xbf\xee\x80\x80"),

	/* UTF-8 */
	X("a byte that begins nothing", "{\"a\":\"\x80\"}", BAD_UTF8 "6"),
	X("FF", "{\"a\":\"b\xff\"}", BAD_UTF8 "7"),
	X("overlong in two bytes", "{\"a\":\"\xc0\xaf\"}", BAD_UTF8 "6"),
	X("overlong in two bytes, the last", "{\"a\":\"\xc1\xbf\"}", BAD_UTF8 "6"),
	X("overlong in three bytes", "{\"a\":\"\xe0\x9f\xbf\"}", BAD_UTF8 "7"),
	X("overlong in four bytes", "{\"a\":\"\xf0\x8f\xbf\xbf\"}", BAD_UTF8 "7"),
	X("an encoded surrogate", "{\"a\":\"\xed\xa0\x80\"}", BAD_UTF8 "7"),
	X("a surrogate pair, encoded each", "{\"a\":\"\xed\xa0\xbd\xed\xb8\x80\"}", BAD_UTF8 "7"),
	X("beyond U+10FFFF", "{\"a\":\"\xf4\x90\x80\x80\"}", BAD_UTF8 "7"),
	X("a first byte beyond F4", "{\"a\":\"\xf5\x80\x80\x80\"}", BAD_UTF8 "6"),
	X("cut before the quote", "{\"a\":\"\xe2\x82\"}", BAD_UTF8 "8"),
	X("cut before a character", "{\"a\":\"\xe2\x82\xe2\x82\xac\"}", BAD_UTF8 "8"),
	X("cut in the fourth byte", "{\"a\":\"\xf0\x9f\x98z\"}", BAD_UTF8 "9"),
	X("in a key", "{\"\xff\":1}", BAD_UTF8 "2"),
	X("in the name", "{\"model\":\"a\xe9\"}", BAD_UTF8 "12"),
	X("outside a string", "{\"a\":\xc3\xa9}", NO_VALUE "5"),
};

/* --- multipart --- */

struct form_row {
	const char *sentence;
	const char *content_type;
	const char *bytes;
	size_t len;
	const char *seen; /* "! error", `RAW` or "" for no such field */
};

#define TYPE	       "multipart/form-data; boundary=xYz"
#define LINE(h)	       h "\r\n"
#define DISP(p)	       "Content-Disposition: form-data; " p "\r\n"
#define PART(p, data)  "\r\n--xYz\r\n" DISP(p) "\r\n" data
#define FIRST(p, data) "--xYz\r\n" DISP(p) "\r\n" data
#define LAST	       "\r\n--xYz--\r\n"
#define NAMED	       "name=\"model\""

#define F(sentence, bytes, seen) \
	{ \
		sentence, TYPE, bytes, sizeof(bytes) - 1, seen \
	}
#define T(sentence, type, boundary, seen) \
	{ \
		sentence, type, "--" boundary "\r\n" DISP(NAMED) "\r\na\r\n--" boundary "--\r\n", \
			sizeof("--" boundary "\r\n" DISP(NAMED) "\r\na\r\n--" boundary "--\r\n") - \
				1, \
			seen \
	}

#define NO_TYPE	    "! Content-Type is not multipart/form-data"
#define NO_BOUNDARY "! Content-Type has no valid boundary"
#define BAD_TYPE    "! Content-Type is malformed"
#define EXTENDED    "! Content-Type has an extended boundary"
#define NOT_BEGUN   "! the body does not begin with the boundary"
#define NOT_ENDED   "! the last part does not end with a boundary"
#define HEAD_LONG   "! a part's header lines are too long"
#define HEAD_CUT    "! a part's header lines do not end"
#define BARE_LF	    "! a part's header line ends in a bare line feed"
#define HEAD_CTL    "! a control character in a part's header line"
#define BAD_LINE    "! a part has a malformed header line"
#define BAD_DISP    "! a part has a malformed Content-Disposition"
#define NO_DISP	    "! a part has no Content-Disposition"
#define OVERLAP	    "! a boundary without its own CR LF before it"
#define BAD_FIELD   "! the field has control characters or invalid UTF-8"
#define C70	    "0123456789012345678901234567890123456789012345678901234567890123456789"

static const struct form_row form_rows[] = {
	F("the field", FIRST(NAMED, "whisper-1") LAST, "whisper-1"),
	F("behind a file",
	  FIRST("name=\"file\"; filename=\"a.wav\"", "RIFF\r\n--xY\r\n\0\r") PART(NAMED, "a") LAST,
	  "a"),
	F("before a file", FIRST(NAMED, "a") PART("name=file; filename=b", "model") LAST, "a"),
	F("another field", FIRST("name=\"models\"", "a") PART("name=\"Model\"", "b") LAST, ""),
	F("no field at all", "--xYz--\r\n", ""),
	F("an empty value", FIRST(NAMED, "") LAST, ""),
	F("without a CR LF at the end", FIRST(NAMED, "a") "\r\n--xYz--", "a"),
	F("a CR LF before the first boundary, as ever", "\r\n" FIRST(NAMED, "a") LAST, "a"),
	F("the name without quotes", FIRST("name=model", "a") LAST, "a"),
	F("the name behind another parameter", FIRST("x=\"y;name=z\"; name=\"model\"", "a") LAST,
	  "a"),
	F("names in any case",
	  "--xYz\r\ncontent-DISPOSITION:Form-Data;NAME=\"model\"\r\n\r\na" LAST, "a"),
	F("other header lines",
	  "--xYz\r\nContent-Type: text/plain; charset=utf-8\r\n" DISP(
		  NAMED) "X-Empty:\r\n\r\na" LAST,
	  "a"),
	F("encodings that change nothing",
	  "--xYz\r\n" DISP(NAMED) "Content-Transfer-Encoding: 8BIT \r\n\r\na" LAST, "a"),
	F("other long parameters", FIRST("names=a; name-filename=b; " NAMED, "a") LAST, "a"),
	F("all but control characters in a header line",
	  "--xYz\r\n" DISP(NAMED) "--xY: \t ~\x80\xff\r\n\r\na" LAST, "a"),
	F("UTF-8 in the value", FIRST(NAMED, "\xc3\xa9") LAST, "\xc3\xa9"),
	F("UTF-8 in a file's name",
	  FIRST("name=f; filename=\"\xc3\xa9\"", "") PART(NAMED, "a") LAST, "a"),
	F("a backslash in a file's name, as Windows has it",
	  FIRST("name=f; filename=\"C:\\dir\\a.wav\"", "") PART(NAMED, "a") LAST, "a"),
	F("a boundary in the middle of a line is none", FIRST(NAMED, "a--xYz--") LAST, "a--xYz--"),
	F("one behind a bare CR is none", FIRST("name=f", "a\r--xYz--") PART(NAMED, "b") LAST, "b"),
	F("one with a letter in another case is none",
	  FIRST("name=f", "a\r\n--xyz") PART(NAMED, "b") LAST, "b"),
	F("a boundary begun again at once",
	  FIRST("name=f", "a\r\n--xY\r\n\r\n--xY\n\r\n") PART(NAMED, "b") LAST, "b"),
	F("space around the value belongs to it", FIRST(NAMED, " a ") LAST, " a "),

	/* given twice, or in a form that is read in different ways */
	F("twice", FIRST(NAMED, "a") PART(NAMED, "a") LAST, "! the field is given twice"),
	F("twice, one without quotes",
	  FIRST(NAMED, "a") PART("name=f", "") PART("name=model", "a") LAST,
	  "! the field is given twice"),
	F("as a file", FIRST(NAMED "; filename=\"a\"", "a") LAST, "! the field is given as a file"),
	F("as a file by an extended name", FIRST("filename*=UTF-8''a; " NAMED, "a") LAST,
	  "! the field is given as a file"),
	F("in base64", "--xYz\r\n" DISP(NAMED) "Content-Transfer-Encoding: base64\r\n\r\nYQ==" LAST,
	  "! the field is given in a transfer encoding"),
	F("in quoted-printable",
	  "--xYz\r\nContent-Transfer-Encoding:quoted-printable\r\n" DISP(NAMED) "\r\n=61" LAST,
	  "! the field is given in a transfer encoding"),
	F("in two encodings",
	  "--xYz\r\n" DISP(NAMED) "Content-Transfer-Encoding: 7bit base64\r\n\r\na" LAST,
	  "! the field is given in a transfer encoding"),
	F("two names", FIRST(NAMED "; name=\"b\"", "a") LAST, "! a part has two names"),
	F("an extended name", FIRST("name=f; name*=UTF-8''model", "a") LAST,
	  "! a part has an extended name"),
	F("a name with a backslash", FIRST("name=\"mo\\del\"", "a") LAST,
	  "! a part has a backslash in its name"),
	F("an escaped quote, which hides a name from some",
	  FIRST("filename=\"x\\\"; " NAMED "; y=\"", "a") LAST, BAD_DISP),
	F("two backslashes before a quote", FIRST("filename=\"x\\\\\"; " NAMED, "a") LAST,
	  BAD_DISP),
	F("two dispositions", "--xYz\r\n" DISP("name=f") DISP(NAMED) "\r\na" LAST,
	  "! a part has two Content-Dispositions"),
	F("no disposition", "--xYz\r\nContent-Type: text/plain\r\n\r\na" LAST, NO_DISP),
	F("no header line", "--xYz\r\n\r\na" LAST, NO_DISP),
	F("another disposition",
	  "--xYz\r\nContent-Disposition: attachment; " NAMED "\r\n\r\na" LAST,
	  "! a part is not form-data"),
	F("no name", FIRST("filename=a", "a") LAST, "! a part has no name"),
	F("a name without a value", FIRST("name", "a") LAST, BAD_DISP),
	F("a name with nothing behind =", FIRST("name=", "a") LAST, BAD_DISP),
	F("a name whose quotes do not end", FIRST("name=\"model", "a") LAST, BAD_DISP),
	F("text behind the quotes", FIRST("name=\"model\"s", "a") LAST, BAD_DISP),
	F("space around =", FIRST("name = \"model\"", "a") LAST, BAD_DISP),
	F("no semicolon", FIRST("x=y " NAMED, "a") LAST, BAD_DISP),
	F("a tab in quotes, and a semicolon too many", FIRST(";" NAMED "; x=\"\t\" ; ", "a") LAST,
	  "a"),

	/* the value */
	F("a line feed in it", FIRST(NAMED, "a\nb") LAST, BAD_FIELD),
	F("CR LF in it", FIRST(NAMED, "a\r\nX: y") LAST, BAD_FIELD),
	F("a NUL in it", FIRST(NAMED, "a\0b") LAST, BAD_FIELD),
	F("the last control character in it", FIRST(NAMED, "a\x1f") LAST, BAD_FIELD),
	F("DEL in it", FIRST(NAMED, "a\x7f") LAST, BAD_FIELD),
	F("a tab in it", FIRST(NAMED, "\ta") LAST, BAD_FIELD),
	F("invalid UTF-8 in it", FIRST(NAMED, "a\xe9") LAST, BAD_FIELD),

	/* lines */
	F("header lines that end in LF",
	  "--xYz\r\nContent-Disposition: form-data; name=a\n\r\na" LAST, BARE_LF),
	F("a blank line that ends in LF", "--xYz\r\n" DISP(NAMED) "\na" LAST, BARE_LF),
	F("a bare CR in a header line", "--xYz\r\n" DISP("name=a\rb") "\r\na" LAST, HEAD_CTL),
	F("a NUL in a header line", "--xYz\r\n" DISP(NAMED) "X: \0\r\n\r\na" LAST, HEAD_CTL),
	F("DEL in a header line", "--xYz\r\n" DISP(NAMED) "X: \x7f\r\n\r\na" LAST, HEAD_CTL),
	F("the last control character in a header line",
	  "--xYz\r\n" DISP(NAMED) "X: \x1f\r\n\r\na" LAST, HEAD_CTL),
	F("a folded header line",
	  "--xYz\r\nContent-Disposition: form-data; name=a;\r\n filename=b\r\n\r\na" LAST,
	  BAD_LINE),
	F("a header line without a colon", "--xYz\r\n" DISP(NAMED) "X\r\n\r\na" LAST, BAD_LINE),
	F("space before the colon",
	  "--xYz\r\nContent-Disposition : form-data; name=a\r\n\r\na" LAST, BAD_LINE),
	F("no name before the colon", "--xYz\r\n" DISP(NAMED) ": x\r\n\r\na" LAST, BAD_LINE),
	F("text behind a boundary", "--xYz \r\n" DISP(NAMED) "\r\na" LAST,
	  "! text behind a boundary"),
	F("a longer boundary", FIRST(NAMED, "a\r\n--xYzz\r\n") LAST, "! text behind a boundary"),
	F("a boundary that ends in LF", "--xYz\n" DISP(NAMED) "\r\na" LAST,
	  "! text behind a boundary"),
	F("a boundary behind a bare LF", FIRST(NAMED, "a\n--xYz--\r\n") LAST, OVERLAP),
	F("a boundary behind the blank line", FIRST(NAMED, "--xYz--\r\n") LAST, OVERLAP),
	F("a boundary behind the blank line and LF", FIRST(NAMED, "\n--xYz--\r\n") LAST, OVERLAP),
	F("a boundary among header lines", "--xYz\r\n" DISP(NAMED) "--xYz--\r\n\r\na" LAST,
	  "! a boundary among a part's header lines"),
	F("a preamble", "hello\r\n" FIRST(NAMED, "a") LAST, NOT_BEGUN),
	F("two CR LF before the first boundary", "\r\n\r\n" FIRST(NAMED, "a") LAST, NOT_BEGUN),
	F("an epilogue", FIRST(NAMED, "a") LAST "b", "! text behind the last boundary"),
	F("parts behind the last boundary", FIRST("name=f", "a") LAST FIRST(NAMED, "a") LAST,
	  "! text behind the last boundary"),
	F("text on the last boundary's line", FIRST(NAMED, "a") "\r\n--xYz--a",
	  "! text behind the last boundary"),
	F("one dash behind a boundary", FIRST(NAMED, "a") "\r\n--xYz-", "! text behind a boundary"),
	F("nothing", "", NOT_BEGUN),
	F("another boundary", "--abc\r\n" DISP(NAMED) "\r\na\r\n--abc--\r\n", NOT_BEGUN),
	F("the end behind a boundary", "--xYz", "! text behind a boundary"),
	F("the end in the header lines", "--xYz\r\n" DISP(NAMED), HEAD_CUT),
	F("the end in the value", FIRST(NAMED, "a"), NOT_ENDED),
	F("the end in the value, behind LF", FIRST(NAMED, "a\r\n"), NOT_ENDED),
	F("the end in the boundary", FIRST(NAMED, "a\r\n--xY"), NOT_ENDED),

	/* Content-Type */
	T("a quoted boundary", "multipart/form-data; boundary=\"a b:c\"", "a b:c", "a"),
	T("all that a quoted boundary may have",
	  "multipart/form-data; boundary=\"aZ09'()+_,-./:=?\"", "aZ09'()+_,-./:=?", "a"),
	T("names in any case", "Multipart/FORM-Data;BOUNDARY=a", "a", "a"),
	T("another parameter", "multipart/form-data; charset=\"utf-8; boundary=b\" ;boundary=a ; ",
	  "a", "a"),
	T("70 characters", "multipart/form-data; boundary=" C70, C70, "a"),
	T("71 characters", "multipart/form-data; boundary=" C70 "a", C70 "a", NO_BOUNDARY),
	T("space around it, other long parameters",
	  " multipart/form-data;x-boundary*=1; boundary=a ", "a", "a"),
	T("none", "multipart/form-data", "a", NO_BOUNDARY),
	T("an empty one", "multipart/form-data; boundary=\"\"", "", NO_BOUNDARY),
	T("an empty one without quotes", "multipart/form-data; boundary=", "", BAD_TYPE),
	T("two", "multipart/form-data; boundary=a; boundary=a", "a",
	  "! Content-Type has two boundaries"),
	T("an extended one", "multipart/form-data; boundary*=a; boundary=a", "a", EXTENDED),
	T("an extended one in pieces", "multipart/form-data; boundary=a; BOUNDARY*0=a", "a",
	  EXTENDED),
	T("one that ends in space", "multipart/form-data; boundary=\"a \"", "a ", NO_BOUNDARY),
	T("one with a character it may not have", "multipart/form-data; boundary=\"a#b\"", "a#b",
	  NO_BOUNDARY),
	T("one with an escape", "multipart/form-data; boundary=\"a\\b\"", "ab", NO_BOUNDARY),
	T("one that needs quotes", "multipart/form-data; boundary=a/b", "a/b", BAD_TYPE),
	T("one in single quotes, which are part of it", "multipart/form-data; boundary='a'", "'a'",
	  "a"),
	T("a control character in quotes", "multipart/form-data; boundary=a; x=\"\x1f\"", "a",
	  BAD_TYPE),
	T("quotes that do not end", "multipart/form-data; boundary=\"a", "a", BAD_TYPE),
	T("quotes that end in a backslash", "multipart/form-data; boundary=\"a\\\"", "a\\",
	  BAD_TYPE),
	T("two media types", "multipart/form-data; boundary=a, text/plain", "a", BAD_TYPE),
	T("another media type", "multipart/mixed; boundary=a", "a", NO_TYPE),
	T("a longer media type", "multipart/form-data2; boundary=a", "a", NO_TYPE),
	T("no media type", "", "a", NO_TYPE),
};

#endif
