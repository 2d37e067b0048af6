#include "l7/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weir::l7 {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kStats = R"({"workers": [
  {"index": 0, "turns": 7, "busy_ns": 70, "busy_share": 0.25,
   "http": {"connections": 2, "requests": 9, "responses": {"2xx": 8, "5xx": 1}},
   "tcp": {"resets_sent": 4}},
  {"index": 1, "turns": 8}, {"turns": 1}],
 "services": [{"service": "ca\"rt", "requests": 3}, {"requests": 1}, 5], "services_left_out": 2,
 "names": {"followed": 3, "lookups": 12, "answers": {"found": 9, "no_name": 2}}})";

TEST(L7Metrics, HaveANameForEveryNumberAndLabelsForWhatHasNames) {
  const std::string text = metrics_text(kStats, {.version = "1.2", .revision = 3});
  EXPECT_THAT(text, HasSubstr("# TYPE weir_l7_turns_total counter\n"
                              "weir_l7_turns_total{worker=\"0\"} 7\n"
                              "weir_l7_turns_total{worker=\"1\"} 8\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE weir_l7_busy_ns_total counter\n"
                              "weir_l7_busy_ns_total{worker=\"0\"} 70\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE weir_l7_busy_share gauge\nweir_l7_busy_share{worker=\"0\"} "
                              "0.25\n"));
  EXPECT_THAT(text, HasSubstr("weir_l7_http_connections{worker=\"0\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("weir_l7_http_responses_total{worker=\"0\",class=\"2xx\"} 8\n"));
  EXPECT_THAT(text, HasSubstr("weir_l7_service_requests_total{service=\"ca\\\"rt\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("weir_l7_services_left_out 2\n"));
  EXPECT_THAT(text, HasSubstr("weir_l7_tcp_resets_sent_total{worker=\"0\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE weir_l7_names_followed gauge\nweir_l7_names_followed 3\n"));
  EXPECT_THAT(text, HasSubstr("weir_l7_names_lookups_total 12\n"));
  EXPECT_THAT(text, HasSubstr("weir_l7_names_answers_total{result=\"no_name\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("weir_l7_build_info{version=\"1.2\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("weir_l7_config_revision 3\n"));
}

TEST(L7Metrics, SayWhatBecameOfAFileThatIsFollowed) {
  EXPECT_THAT(metrics_text(kStats, {}), Not(HasSubstr("reload")));
  DaemonFacts facts;
  facts.reload = {.file = "/etc/weir.yaml", .ok = false, .ok_total = 4, .failures_total = 2};
  const std::string text = metrics_text(kStats, facts);
  EXPECT_THAT(text, HasSubstr("weir_l7_config_reload_success 0\n"));
  EXPECT_THAT(text, HasSubstr("weir_l7_config_reloads_total{result=\"failed\"} 2\n"));
}

TEST(L7Metrics, OfAnAnswerThatIsNoneAreTheDaemonsAlone) {
  for (const std::string_view wrong :
       {"", "[]", "{", R"({"workers": 5})", R"({"workers": [[]]})", R"({"names": 5})"}) {
    const std::string text = metrics_text(wrong, {});
    EXPECT_THAT(text, HasSubstr("weir_l7_config_revision 0\n")) << wrong;
    EXPECT_THAT(text, Not(HasSubstr("worker="))) << wrong;
    EXPECT_THAT(text, Not(HasSubstr("names"))) << wrong;
  }
}

}  // namespace
}  // namespace weir::l7
