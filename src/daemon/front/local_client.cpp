#include "daemon/front/local_client.hpp"

#include "forward/forwarding.hpp"
#include "io/clock.hpp"

#include <boost/asio/post.hpp>

namespace curvegate::daemon::front {

using io::now;

LocalClient::LocalClient(io::Stream socket)
    : socket_(std::move(socket)), timer_(socket_.get_executor()), moved_(now()) {}

std::optional<Instant> LocalClient::silent_since() const {
    if (is_open() && (asking_ || (unsent_ > 0 && !listening_))) return moved_;
    return std::nullopt;
}

void LocalClient::close() {
    error_code ignored;
    timer_.cancel();
    socket_.close(ignored);
    pieces_.clear();
    text_.clear();
    unsent_ = 0;
}

void LocalClient::await_request() {
    asking_ = true;
    moved_ = now();
    arm_timer();
}

void LocalClient::send(Piece piece) {
    if (!is_open()) return;
    if (!text_.empty()) pieces_.push_back(std::make_shared<const std::string>(std::exchange(text_, {})));
    if (unsent_ == 0) moved_ = now();
    unsent_ += piece->size();
    pieces_.push_back(std::move(piece));
    flush_soon();
}

void LocalClient::send(std::string_view text) {
    if (!is_open()) return;
    if (unsent_ == 0) moved_ = now();
    unsent_ += text.size();
    text_ += text;
    flush_soon();
}

void LocalClient::flush_soon() {
    arm_timer();
    if (std::exchange(flushing_, true)) return;
    asio::post(socket_.get_executor(), [self = shared_from_this()] { self->flush(); });
}

void LocalClient::flush() {
    if (!is_open()) return;
    if (!text_.empty()) pieces_.push_back(std::make_shared<const std::string>(std::exchange(text_, {})));
    while (!pieces_.empty()) {
        const std::string_view rest = std::string_view(*pieces_.front()).substr(taken_);
        const auto sent = io::send_some(socket_, as_bytes(rest));
        if (!sent) return close();
        if (*sent > 0) moved_ = now();
        taken_ += *sent;
        unsent_ -= *sent;
        if (*sent < rest.size()) {
            return socket_.async_wait(io::Stream::wait_write, [self = shared_from_this()](error_code error) {
                if (!error) self->flush();
            });
        }
        pieces_.pop_front();
        taken_ = 0;
    }
    flushing_ = false;
    on_all_sent();
}

void LocalClient::arm_timer() {
    const auto since = silent_since();
    if (!since || armed_) return;
    armed_ = true;
    timer_.expires_at(*since + kPatience);
    timer_.async_wait([weak = weak_from_this()](error_code error) {
        const auto self = weak.lock();
        if (!self || error) return;
        self->armed_ = false;
        const auto silent = self->silent_since();
        if (silent && now() - *silent >= kPatience) return self->close();
        self->arm_timer();
    });
}

bool LocalClients::make_room() {
    std::shared_ptr<LocalClient> oldest;
    std::erase_if(all_, [&](const auto& weak) {
        const auto client = weak.lock();
        if (!client || !client->is_open()) return true;
        const auto since = client->silent_since();
        if (since && (!oldest || *since < *oldest->silent_since())) oldest = client;
        return false;
    });
    if (all_.size() < most_) return true;
    if (oldest) oldest->close();
    return oldest != nullptr;
}

}  // namespace curvegate::daemon::front
