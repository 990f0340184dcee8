#include "daemon/front/shared_page.hpp"

#include <utility>

namespace curvegate::daemon::front {

void SharedPage::ask(Instant now, DoneFn done) {
    if (const auto page = now - asked_ < kShared ? last_.lock() : nullptr) return done(page);
    waiting_.push_back(std::move(done));
    if (waiting_.size() > 1) return;
    asked_ = now;
    make_([this](std::string text) {
        const auto page = std::make_shared<const std::string>(std::move(text));
        last_ = page;
        for (const auto& tell : std::exchange(waiting_, {})) tell(page);
    });
}

}  // namespace curvegate::daemon::front
