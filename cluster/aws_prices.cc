#include "cluster/aws_prices.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "cluster/aws.h"

namespace muster::cluster {
namespace {

using Json = nlohmann::json;

// The price list is the same from everywhere, and answers in few regions.
constexpr char kPriceListRegion[] = "us-east-1";

std::string TextOf(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

// The member of an object; null where there is none.
const Json& MemberOf(const Json& object, const char* key) {
  static const Json* const none = new Json;
  if (!object.is_object()) return *none;
  const auto it = object.find(key);
  return it == object.end() ? *none : *it;
}

// Of a product's terms: OnDemand → offer → priceDimensions → rate → pricePerUnit.
std::optional<double> HourlyPrice(const Json& product) {
  for (const Json& offer : MemberOf(MemberOf(product, "terms"), "OnDemand")) {
    for (const Json& rate : MemberOf(offer, "priceDimensions")) {
      double usd = 0;
      if (rate.is_object() && TextOf(rate, "unit") == "Hrs" &&
          absl::SimpleAtod(TextOf(MemberOf(rate, "pricePerUnit"), "USD"), &usd) &&
          std::isfinite(usd) && usd > 0) {
        return usd;
      }
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> OnDemandPriceWords(const Aws& aws, const std::set<std::string>& types) {
  Json filters = Json::array();
  const auto filter = [&](const char* type, const char* field, const std::string& value) {
    filters.push_back({{"Type", type}, {"Field", field}, {"Value", value}});
  };
  filter("ANY_OF", "instanceType", fmt::format("{}", fmt::join(types, ",")));
  filter("TERM_MATCH", "operatingSystem", "Linux");
  filter("TERM_MATCH", "preInstalledSw", "NA");
  filter("TERM_MATCH", "tenancy", "Shared");
  filter("TERM_MATCH", "capacitystatus", "Used");
  std::vector<std::string> words = AwsWords(aws, kPriceListRegion);
  words.insert(words.end(), {"--output", "json", "pricing", "get-products", "--service-code",
                             "AmazonEC2", "--filters", filters.dump(), "--query", "PriceList"});
  return words;
}

absl::StatusOr<std::vector<RegionPrice>> ParseOnDemandPrices(const std::string& text) {
  const Json list = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array()) return absl::InvalidArgumentError("aws tells prices in another form");
  std::vector<RegionPrice> prices;
  for (const Json& item : list) {
    // Each product is a text that is JSON again.
    if (!item.is_string()) return absl::InvalidArgumentError("aws tells a price in another form");
    const Json product = Json::parse(item.get<std::string>(), nullptr, false);
    const Json& attributes = MemberOf(MemberOf(product, "product"), "attributes");
    if (!attributes.is_object()) {
      return absl::InvalidArgumentError("aws tells a price of nothing");
    }
    // Local zones are no regions.
    const std::string kind = TextOf(attributes, "locationType");
    if (!kind.empty() && kind != "AWS Region") continue;
    RegionPrice price{.type = TextOf(attributes, "instanceType"),
                      .region = TextOf(attributes, "regionCode")};
    const auto usd = HourlyPrice(product);
    if (price.type.empty() || price.region.empty() || !usd) continue;
    price.usd_per_hour = *usd;
    prices.push_back(std::move(price));
  }
  return prices;
}

}  // namespace muster::cluster
