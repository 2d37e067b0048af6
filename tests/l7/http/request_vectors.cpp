#include "tests/l7/http/request_vectors.h"

namespace weir::http::testing {

namespace {

using namespace std::string_literals;

constexpr auto k400 = Status::kBadRequest;
constexpr auto k414 = Status::kUriTooLong;
constexpr auto k417 = Status::kExpectationFailed;
constexpr auto k431 = Status::kHeaderFieldsTooLarge;
constexpr auto k501 = Status::kNotImplemented;
constexpr auto k505 = Status::kVersionNotSupported;

/// A good HTTP/1.1 request with this request line.
std::string line(const std::string& request_line) {
  return request_line + "\r\nHost: a.example\r\n\r\n";
}
/// A good POST with these header lines besides Host.
std::string post(const std::string& lines) {
  return "POST /p HTTP/1.1\r\nHost: a.example\r\n" + lines + "\r\n";
}
std::string post_1_0(const std::string& lines) {
  return "POST /p HTTP/1.0\r\nHost: a.example\r\n" + lines + "\r\n";
}
std::string host(const std::string& value) {
  return "GET / HTTP/1.1\r\nHost: " + value + "\r\n\r\n";
}

std::vector<RequestVector> request_line_vectors() {
  return {
      {"ASimpleGetIsAccepted", line("GET / HTTP/1.1"), {}},
      {"BytesBehindTheHeadAreLeftAlone", line("GET / HTTP/1.1") + "GET", {}, 3},
      {"AnEmptyInputIsIncomplete", "", {}, 0, true},
      {"ACutRequestLineIsIncomplete", "GET / HT", {}, 0, true},
      {"AHeadWithoutItsLastLfIsIncomplete", "GET / HTTP/1.1\r\nHost: a\r\n\r", {}, 0, true},
      {"ACutLineEndIsIncomplete", "GET / HTTP/1.1\r", {}, 0, true},
      {"OneEmptyLineBeforeTheRequestIsSkipped", "\r\n" + line("GET / HTTP/1.1"), {}},
      {"TwoEmptyLinesBeforeTheRequestAreRefused", "\r\n\r\n" + line("GET / HTTP/1.1"), k400},
      {"ABareLfBeforeTheRequestIsRefused", "\n" + line("GET / HTTP/1.1"), k400},
      {"ASpaceBeforeTheMethodIsRefused", line(" GET / HTTP/1.1"), k400},
      {"ACustomMethodIsAccepted", line("BREW /pot HTTP/1.1"), {}},
      {"AMethodOfTokenCharactersIsAccepted", line("M-!#$%&'*+.^_`|~9 / HTTP/1.1"), {}},
      {"ALowerCaseMethodIsAnotherMethod", line("get / HTTP/1.1"), {}},
      {"AMethodOf32CharactersIsAccepted", line(std::string(32, 'M') + " / HTTP/1.1"), {}},
      {"AMethodOf33CharactersIsNotImplemented", line(std::string(33, 'M') + " / HTTP/1.1"), k501},
      {"AMethodWithASeparatorIsRefused", line("GE(T / HTTP/1.1"), k400},
      {"AMethodWithAColonIsRefused", line("GET: / HTTP/1.1"), k400},
      {"AMethodWithAHighByteIsRefused", line("G\xc3\x89T / HTTP/1.1"), k400},
      {"TwoSpacesAfterTheMethodAreRefused", line("GET  / HTTP/1.1"), k400},
      {"TwoSpacesBeforeTheVersionAreRefused", line("GET /  HTTP/1.1"), k400},
      {"ATabInsteadOfASpaceIsRefused", line("GET\t/ HTTP/1.1"), k400},
      {"ASpaceAfterTheVersionIsRefused", line("GET / HTTP/1.1 "), k400},
      {"ASpaceInTheTargetIsRefused", line("GET /a b HTTP/1.1"), k400},
      {"AMethodAloneIsRefused", line("GET"), k400},
      {"Http09IsRefused", "GET /\r\n\r\n", k400},
      {"AnEmptyTargetIsRefused", line("GET  HTTP/1.1"), k400},
      {"AHighByteInTheTargetIsRefused", line("GET /\xc3\xa9 HTTP/1.1"), k400},
      {"AFragmentInTheTargetIsRefused", line("GET /a#b HTTP/1.1"), k400},
      {"ACharacterThatBrowsersDoNotEscapeIsAccepted", line("GET /?a={|}\" HTTP/1.1"), {}},
      {"AnAbsoluteTargetIsAccepted", line("GET http://b.example/x HTTP/1.1"), {}},
      {"AnAsteriskForOptionsIsAccepted", line("OPTIONS * HTTP/1.1"), {}},
      {"ATargetOf8192BytesIsAccepted", line("GET /" + std::string(8191, 'x') + " HTTP/1.1"), {}},
      {"ATargetOf8193BytesIsTooLong", line("GET /" + std::string(8192, 'x') + " HTTP/1.1"), k414},
      {"AnEndlessTargetIsTooLong", "GET /" + std::string(40000, 'x'), k414},
      {"Http10WithoutHostIsAccepted", "GET / HTTP/1.0\r\n\r\n", {}},
      {"Http12IsNotSupported", line("GET / HTTP/1.2"), k505},
      {"Http20IsNotSupported", line("GET / HTTP/2.0"), k505},
      {"Http09WithAVersionIsNotSupported", line("GET / HTTP/0.9"), k505},
      {"TheHttp2PrefaceIsNotSupported", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", k505},
      {"AVersionWithoutMinorIsRefused", line("GET / HTTP/1"), k400},
      {"AVersionWithTwoMinorDigitsIsRefused", line("GET / HTTP/1.10"), k400},
      {"AVersionInLowerCaseIsRefused", line("GET / http/1.1"), k400},
      {"AnotherProtocolIsRefused", line("GET / RTSP/1.0"), k400},
      {"ATlsClientHelloIsRefusedAtItsFirstByte", "\x16\x03\x01\x02", k400},
      {"ANulInTheTargetIsRefused", line("GET /\0 HTTP/1.1"s), k400},
  };
}

std::vector<RequestVector> line_end_vectors() {
  return {
      {"ALfAloneAfterTheRequestLineIsRefused", "GET / HTTP/1.1\nHost: a\r\n\r\n", k400},
      {"ALfAloneAfterAFieldIsRefused", "GET / HTTP/1.1\r\nHost: a\n\r\n", k400},
      {"ALfAloneAtTheEndOfTheHeadIsRefused", "GET / HTTP/1.1\r\nHost: a\r\n\n", k400},
      {"ACrInsideAValueIsRefused", post("X: a\rb\r\n"), k400},
      {"ACrInTheTargetIsRefused", line("GET /\rx HTTP/1.1"), k400},
      {"TwoCrsBeforeTheLfAreRefused", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", k400},
      {"ACrInsteadOfTheLastCrlfIsRefused", "GET / HTTP/1.1\r\nHost: a\r\n\rX", k400},
      {"ANulInAValueIsRefused", post("X: a\0b\r\n"s), k400},
      {"ANulInANameIsRefused", post("X\0: a\r\n"s), k400},
      {"AnEscapeByteInAValueIsRefused", post("X: \x1b[0m\r\n"), k400},
      {"ADelInAValueIsRefused", post("X: \x7f\r\n"), k400},
      {"ATabInAValueIsAccepted", post("X: a\tb\r\n"), {}},
      {"HighBytesInAValueAreAccepted", post("X: caf\xc3\xa9\r\n"), {}},
  };
}

std::vector<RequestVector> field_vectors() {
  const std::string field = "X: 1\r\n";
  std::string ninety_nine;
  for (int i = 0; i < 99; ++i)
    ninety_nine += field;
  const std::string long_value(32 * 1024, 'v');
  return {
      {"AValueMayBeEmpty", post("X:\r\n"), {}},
      {"AValueMayBeWhiteSpace", post("X: \t \r\n"), {}},
      {"AValueNeedsNoSpaceBeforeIt", post("X:a\r\n"), {}},
      {"ANameMayHoldAllTokenCharacters", post("!#$%&'*+-.^`|~9: a\r\n"), {}},
      {"ASpaceBeforeTheColonIsRefused", post("X : a\r\n"), k400},
      {"ATabBeforeTheColonIsRefused", post("X\t: a\r\n"), k400},
      {"ASpaceInANameIsRefused", post("X Y: a\r\n"), k400},
      {"AFoldedLineIsRefused", post("X: a\r\n b\r\n"), k400},
      {"ALineFoldedWithATabIsRefused", post("X: a\r\n\tb\r\n"), k400},
      {"AFoldedTransferEncodingIsRefused", post("Transfer-Encoding:\r\n chunked\r\n"), k400},
      {"WhiteSpaceBeforeTheFirstFieldIsRefused", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", k400},
      {"ALineOfWhiteSpaceIsRefused", post(" \r\n"), k400},
      {"AnEmptyNameIsRefused", post(": a\r\n"), k400},
      {"ALineWithoutColonIsRefused", post("XYZ\r\n"), k400},
      {"ANameWithAHighByteIsRefused", post("X\xc3\xa9: a\r\n"), k400},
      {"ANameInQuotesIsRefused", post("\"X\": a\r\n"), k400},
      {"ANameWithAnUnderscoreIsRefused", post("X_User: a\r\n"), k400},
      {"AHundredFieldsAreAccepted", post(ninety_nine), {}},
      {"AHundredAndOneFieldsAreTooMany", post(ninety_nine + field), k431},
      {"AHeadOf32KibIsTooLong", post("X: " + long_value + "\r\n"), k431},
      {"AnEndlessValueIsTooLong", "GET / HTTP/1.1\r\nX: " + long_value + long_value, k431},
  };
}

std::vector<RequestVector> host_vectors() {
  return {
      {"NoHostIsRefused", "GET / HTTP/1.1\r\n\r\n", k400},
      {"TwoHostsAreRefused", "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", k400},
      {"TwoEqualHostsAreRefused", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", k400},
      {"TwoHostsInHttp10AreRefused", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", k400},
      {"AnEmptyHostIsRefused", host(""), k400},
      {"AHostWithAPortIsAccepted", host("a.example:8080"), {}},
      {"AHostWithAnEmptyPortIsAccepted", host("a.example:"), {}},
      {"APortAloneIsRefused", host(":80"), k400},
      {"APortAbove65535IsRefused", host("a:65536"), k400},
      {"APortThatIsNoNumberIsRefused", host("a:http"), k400},
      {"ASignedPortIsRefused", host("a:+80"), k400},
      {"TwoPortsAreRefused", host("a:80:80"), k400},
      {"AnIpv4HostIsAccepted", host("192.0.2.1"), {}},
      {"AnIpv6HostInBracketsIsAccepted", host("[2001:db8::1]:443"), {}},
      {"AnIpv6HostWithoutBracketsIsRefused", host("2001:db8::1"), k400},
      {"AnOpenBracketIsRefused", host("[2001:db8::1"), k400},
      {"TextInBracketsIsRefused", host("[a.example]"), k400},
      {"TextAfterTheBracketIsRefused", host("[::1]a"), k400},
      {"AZoneInAnAddressIsRefused", host("[fe80::1%25eth0]"), k400},
      {"UserInformationIsRefused", host("user@a.example"), k400},
      {"AListOfHostsIsRefused", host("a.example, b.example"), k400},
      {"APathInTheHostIsRefused", host("a.example/x"), k400},
      {"ASpaceInTheHostIsRefused", host("a b"), k400},
      {"AnEscapeInTheHostIsRefused", host("a%2eexample"), k400},
      {"AHighByteInTheHostIsRefused", host("caf\xc3\xa9.example"), k400},
      {"AnUnderscoreInTheHostIsAccepted", host("my_service.example"), {}},
      {"ADotAtTheEndOfTheHostIsAccepted", host("a.example."), {}},
      {"ADotAloneIsNoHost", host("."), k400},
      {"TwoDotsAreNoHost", host(".."), k400},
      {"AnEmptyLabelIsRefused", host("a..example"), k400},
      {"AnEmptyFirstLabelIsRefused", host(".a.example"), k400},
      {"AHostOf300CharactersIsRefused", host(std::string(300, 'a')), k400},
  };
}

std::vector<RequestVector> framing_vectors() {
  const std::string body = "Content-Length: 5\r\n";
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  std::string options = "Connection: a";
  for (int i = 0; i < 40; ++i)
    options += ",a";
  return {
      {"ALengthIsAccepted", post(body), {}},
      {"ALengthOfZeroIsAccepted", post("Content-Length: 0\r\n"), {}},
      {"ALengthWithLeadingZerosIsAccepted", post("Content-Length: 005\r\n"), {}},
      {"AnEmptyLengthIsRefused", post("Content-Length:\r\n"), k400},
      {"APositiveSignIsRefused", post("Content-Length: +5\r\n"), k400},
      {"ANegativeLengthIsRefused", post("Content-Length: -5\r\n"), k400},
      {"AHexadecimalLengthIsRefused", post("Content-Length: 0x5\r\n"), k400},
      {"ALengthWithAFractionIsRefused", post("Content-Length: 5.0\r\n"), k400},
      {"ALengthWithASpaceInsideIsRefused", post("Content-Length: 5 5\r\n"), k400},
      {"AListOfLengthsIsRefused", post("Content-Length: 5, 5\r\n"), k400},
      {"TwoEqualLengthsAreRefused", post(body + body), k400},
      {"TwoDifferentLengthsAreRefused", post(body + "Content-Length: 6\r\n"), k400},
      {"AnOverflowingLengthIsRefused", post("Content-Length: 18446744073709551621\r\n"), k400},
      {"ALengthAbove63BitsIsRefused", post("Content-Length: 9223372036854775808\r\n"), k400},
      {"ALengthOf63BitsIsAccepted", post("Content-Length: 9223372036854775807\r\n"), {}},
      {"ChunkedIsAccepted", post(chunked), {}},
      {"ChunkedIsRecognisedInAnyCase", post("Transfer-Encoding: ChunKed\r\n"), {}},
      {"LengthThenChunkedIsRefused", post(body + chunked), k400},
      {"ChunkedThenLengthIsRefused", post(chunked + body), k400},
      {"LengthAndAnUnknownCodingAreRefused", post(body + "Transfer-Encoding: x\r\n"), k400},
      {"ChunkedInHttp10IsRefused", post_1_0(chunked), k400},
      {"ALengthInHttp10IsAccepted", post_1_0(body), {}},
      {"AnUnknownCodingIsRefused", post("Transfer-Encoding: xchunked\r\n"), k400},
      {"IdentityIsRefused", post("Transfer-Encoding: identity\r\n"), k400},
      {"AnEmptyCodingIsRefused", post("Transfer-Encoding:\r\n"), k400},
      {"ChunkedTwiceIsRefused", post("Transfer-Encoding: chunked, chunked\r\n"), k400},
      {"ChunkedInTwoFieldsIsRefused", post(chunked + chunked), k400},
      {"ChunkedThenAnotherCodingIsRefused", post("Transfer-Encoding: chunked, gzip\r\n"), k400},
      {"AnotherCodingThenChunkedIsNotImplemented", post("Transfer-Encoding: gzip, chunked\r\n"),
       k501},
      {"TwoFieldsThatEndInChunkedAreNotImplemented", post("Transfer-Encoding: gzip\r\n" + chunked),
       k501},
      {"ChunkedWithAParameterIsRefused", post("Transfer-Encoding: chunked;q=1\r\n"), k400},
      {"ChunkedInQuotesIsRefused", post("Transfer-Encoding: \"chunked\"\r\n"), k400},
      {"ChunkedWithACommaIsRefused", post("Transfer-Encoding: chunked,\r\n"), k400},
      {"AVerticalTabBeforeChunkedIsRefused",
       post("Transfer-Encoding: \x0b"
            "chunked\r\n"),
       k400},
      {"AHighByteBeforeChunkedIsRefused",
       post("Transfer-Encoding: \xa0"
            "chunked\r\n"),
       k400},
      {"ALengthWithAnUnderscoreIsRefused", post("Content_Length: 5\r\n"), k400},
      {"ExpectingToContinueIsAccepted", post(body + "Expect: 100-Continue\r\n"), {}},
      {"AnotherExpectationFails", post(body + "Expect: 200-ok\r\n"), k417},
      {"AnotherExpectationBesidesContinueFails",
       post(body + "Expect: 100-continue\r\nExpect: x\r\n"), k417},
      {"AListOfExpectationsFails", post(body + "Expect: 100-continue, x\r\n"), k417},
      {"AnExpectationInHttp10IsIgnored", post_1_0(body + "Expect: x\r\n"), {}},
      {"TooManyConnectionOptionsAreRefused", post(options + "\r\n"), k400},
  };
}

}  // namespace

std::vector<RequestVector> request_vectors() {
  std::vector<RequestVector> all = request_line_vectors();
  for (const auto& more : {line_end_vectors(), field_vectors(), host_vectors(), framing_vectors()})
    all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace weir::http::testing
