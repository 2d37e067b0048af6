#include "l7/http/message.h"

#include <gtest/gtest.h>

#include "l4/base/bytes.h"
#include "l7/http/h1.h"
#include "tests/support/alloc_guard.h"

namespace weir::http {
namespace {

std::string text_of(const HeaderList& fields) {
  std::string text;
  for (const Field field : fields)
    text.append(field.name).append("=").append(field.value).append(";");
  return text;
}

HeaderList sample() {
  HeaderList fields;
  fields.add("Host", "a");
  fields.add("Via", "1");
  fields.add("X", "y");
  fields.add("vIA", "2");
  return fields;
}

TEST(HeaderList, FindsNamesInAnyCase) {
  const HeaderList fields = sample();
  EXPECT_EQ(fields.find("HOST"), "a");
  EXPECT_EQ(fields.find("via"), "1");
  EXPECT_EQ(fields.find("vi"), std::nullopt);
  EXPECT_EQ(fields.count("VIA"), 2U);
  std::string values;
  for (const Field field : fields.find_all("via"))
    values += field.value;
  EXPECT_EQ(values, "12");
}

TEST(HeaderList, SetReplacesTheFirstAndRemovesTheOthers) {
  HeaderList fields = sample();
  fields.set("VIA", "3");
  EXPECT_EQ(text_of(fields), "Host=a;VIA=3;X=y;");
  fields.set("New", "n");
  EXPECT_EQ(text_of(fields), "Host=a;VIA=3;X=y;New=n;");
}

TEST(HeaderList, RemoveSaysHowMany) {
  HeaderList fields = sample();
  EXPECT_EQ(fields.remove("via"), 2U);
  EXPECT_EQ(fields.remove("via"), 0U);
  EXPECT_EQ(text_of(fields), "Host=a;X=y;");
}

TEST(HeaderList, TakesArgumentsFromItselfWhileItGrows) {
  HeaderList fields;
  fields.add("Name", "a value that does not fit into a small string");
  for (int i = 0; i < 100; ++i)
    fields.add(fields[0].name, fields[0].value);
  ASSERT_EQ(fields.size(), 101U);
  for (const Field field : fields) {
    EXPECT_EQ(field.name, "Name");
    EXPECT_EQ(field.value, "a value that does not fit into a small string");
  }
}

TEST(HeaderList, ACopyAndAMovedOneOwnTheirBytes) {
  HeaderList first = sample();
  const HeaderList copy = first;
  const HeaderList moved = std::move(first);
  EXPECT_EQ(text_of(copy), "Host=a;Via=1;X=y;vIA=2;");
  EXPECT_EQ(text_of(moved), text_of(copy));
}

TEST(HeaderList, KeepsItsCapacityOverClear) {
  HeaderList fields = sample();
  fields.clear();
  const weir::testing::AllocationGuard guard;
  fields.add("Host", "a");
  fields.set("Via", "1");
  fields.clear();
  EXPECT_EQ(guard.allocations(), 0U);
}

TEST(Status, HasAPhraseWhereItIsRegistered) {
  EXPECT_EQ(reason_phrase(Status::kHeaderFieldsTooLarge), "Request Header Fields Too Large");
  EXPECT_EQ(reason_phrase(Status{103}), "Early Hints");
  EXPECT_EQ(reason_phrase(Status{511}), "Network Authentication Required");
  EXPECT_EQ(reason_phrase(Status{418}), "");
  EXPECT_EQ(number_of(Status::kVersionNotSupported), 505);
}

TEST(RequestWriter, WritesItsOwnFramingAndVersion) {
  RequestHead head;
  head.method = "POST";
  head.target = "/x";
  head.minor_version = 0;
  head.fields.add("Host", "a");
  head.fields.add("content-length", "99");
  head.fields.add("Transfer-Encoding", "gzip");
  const auto written = [&](BodyFraming body) {
    std::vector<std::byte> out;
    append_request_head(out, head, body);
    return std::string{as_text(out)};
  };
  EXPECT_EQ(written({}), "POST /x HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(written({BodyKind::kLength, 0}),
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(written({BodyKind::kLength, 9223372036854775807U}),
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n");
  EXPECT_EQ(written({BodyKind::kChunked, 0}),
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
}

TEST(ResponseWriter, FramesByStatusAndBody) {
  struct Case {
    Status status;
    BodyFraming body;
    std::string_view framing;
  };
  const Case cases[] = {
      {Status::kOk, {BodyKind::kLength, 5}, "Content-Length: 5\r\n"},
      {Status::kOk, {BodyKind::kChunked, 0}, "Transfer-Encoding: chunked\r\n"},
      {Status::kOk, {BodyKind::kUntilClose, 0}, ""},
      // The answer to HEAD: the backend's own length is information, not framing.
      {Status::kOk, {}, "Content-Length: 7\r\n"},
      {Status::kNotModified, {}, "Content-Length: 7\r\n"},
      {Status::kNoContent, {}, ""},
      {Status::kNoContent, {BodyKind::kLength, 0}, ""},
      {Status::kContinue, {}, ""},
  };
  for (const Case& c : cases) {
    ResponseHead head;
    head.status = c.status;
    head.reason = "R";
    head.fields.add("Content-Length", "7");
    std::vector<std::byte> out;
    append_response_head(out, head, c.body);
    EXPECT_EQ(as_text(out), "HTTP/1.1 " + std::to_string(number_of(c.status)) + " R\r\n" +
                                std::string{c.framing} + "\r\n");
  }
}

TEST(ChunkWriter, WritesSizesInHexadecimal) {
  std::vector<std::byte> out;
  append_chunk_header(out, 0x1fF0);
  append_chunk_end(out);
  append_last_chunk(out, {}, "");
  EXPECT_EQ(as_text(out), "1ff0\r\n\r\n0\r\n\r\n");
}

}  // namespace
}  // namespace weir::http
