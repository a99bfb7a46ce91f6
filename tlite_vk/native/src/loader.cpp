#include "loader.hpp"

#include <memory>
#include <mutex>

#include "errors.hpp"

VULKAN_HPP_DEFAULT_DISPATCH_LOADER_DYNAMIC_STORAGE

namespace tlite {
namespace {

PFN_vkBeginCommandBuffer begin_command_buffer = nullptr;

// kp::Sequence begins its command buffer without any flag and offers no hook for one. A recording is submitted
// several times in one batch (several tokens a submission), which needs SIMULTANEOUS_USE.
VKAPI_ATTR VkResult VKAPI_CALL begin_replayable(VkCommandBuffer commands, const VkCommandBufferBeginInfo* info) {
    VkCommandBufferBeginInfo changed = *info;
    if (!(changed.flags & VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT))
        changed.flags |= VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT;
    return begin_command_buffer(commands, &changed);
}

} // namespace

void open_loader() {
    static std::mutex mutex;
    static vk::DynamicLoader* loader = nullptr; // never closed: devices may outlive every other static object
    std::lock_guard<std::mutex> lock(mutex);
    if (loader) return;
    try {
        auto opened = std::make_unique<vk::DynamicLoader>();
        auto entry = opened->getProcAddress<PFN_vkGetInstanceProcAddr>("vkGetInstanceProcAddr");
        if (!entry)
            fail("the Vulkan loader libvulkan.so.1 is damaged; reinstall it: apt-get install --reinstall libvulkan1");
        VULKAN_HPP_DEFAULT_DISPATCHER.init(entry);
        loader = opened.release();
    } catch (const DeviceError&) {
        throw;
    } catch (const std::runtime_error&) {
        fail(
            "the Vulkan loader (libvulkan.so.1) is not installed; try: apt-get install libvulkan1 mesa-vulkan-drivers");
    }
    if (!VULKAN_HPP_DEFAULT_DISPATCHER.vkEnumerateInstanceVersion)
        fail("the Vulkan loader only knows Vulkan 1.0; version 1.1 or newer is needed: upgrade libvulkan1");
}

void load_functions(vk::Instance instance) {
    static std::once_flag once; // the loader's entry points serve every instance and device
    std::call_once(once, [&] {
        auto& table = VULKAN_HPP_DEFAULT_DISPATCHER;
        table.init(instance);
        begin_command_buffer = table.vkBeginCommandBuffer;
        table.vkBeginCommandBuffer = begin_replayable;
    });
}

} // namespace tlite
