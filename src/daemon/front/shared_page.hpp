#pragma once

#include "base/time.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace curvegate::daemon::front {

/// A page that is rendered for those who ask. Who asks while one is being made gets that one, and so does who
/// asks within a second while somebody still holds it: many slow readers of a large page hold few copies.
class SharedPage {
  public:
    using Page = std::shared_ptr<const std::string>;
    using DoneFn = std::function<void(const Page& page)>;
    /// Makes a page and gives it to its argument, on the same thread, now or later.
    using MakeFn = std::function<void(std::function<void(std::string page)>)>;
    static constexpr Duration kShared = std::chrono::seconds(1);

    explicit SharedPage(MakeFn make) : make_(std::move(make)) {}
    /// It must live until `done` has been called.
    void ask(Instant now, DoneFn done);

  private:
    MakeFn make_;
    std::vector<DoneFn> waiting_;
    std::weak_ptr<const std::string> last_;
    Instant asked_;  // for the last
};

}  // namespace curvegate::daemon::front
