#include "l7/http/date.h"

#include <gtest/gtest.h>

namespace weir::http {
namespace {

TEST(Date, IsWrittenInTheOneFormThatMayBeSent) {
  DateText date;
  EXPECT_EQ(date.of(784'111'777), "Sun, 06 Nov 1994 08:49:37 GMT");  // RFC 9110's example
  EXPECT_EQ(date.of(0), "Thu, 01 Jan 1970 00:00:00 GMT");
  EXPECT_EQ(date.of(951'782'400), "Tue, 29 Feb 2000 00:00:00 GMT");
  EXPECT_EQ(date.of(951'782'399), "Mon, 28 Feb 2000 23:59:59 GMT");
  EXPECT_EQ(date.of(1'798'761'599), "Thu, 31 Dec 2026 23:59:59 GMT");
  EXPECT_EQ(date.of(253'402'300'799), "Fri, 31 Dec 9999 23:59:59 GMT");
}

TEST(Date, OfAnotherSecondIsAnotherOne) {
  DateText date;
  EXPECT_EQ(date.of(784'111'777), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(date.of(784'111'778), "Sun, 06 Nov 1994 08:49:38 GMT");
  EXPECT_EQ(date.of(784'111'777), "Sun, 06 Nov 1994 08:49:37 GMT");
}

}  // namespace
}  // namespace weir::http
