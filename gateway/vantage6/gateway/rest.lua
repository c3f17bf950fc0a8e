-- Makes answers of the REST door what HTTP and 1.x expect; native gRPC never passes here.

-- The transcoder writes errors as {"code":5,"message":"…","details":[…]}; 1.x has the text in "msg". The text is
-- copied as it stands, still escaped, so that nothing needs to be decoded.
local function with_msg(body)
  if body:sub(1, 1) ~= "{" or body:find('"msg":', 1, true) then
    return nil
  end
  local _, start = body:find('"message":"', 1, true)
  local text = ""
  if start then
    local stop = start + 1
    while body:sub(stop, stop) ~= '"' do
      if stop > #body then
        return nil
      end
      stop = stop + (body:sub(stop, stop) == "\\" and 2 or 1)
    end
    text = body:sub(start + 1, stop - 1)
  end
  local comma = body:sub(2, 2) == "}" and "" or ","
  return '{"msg":"' .. text .. '"' .. comma .. body:sub(2)
end

local function is_json(headers)
  local kind = headers:get("content-type")
  return kind ~= nil and kind:find("application/json", 1, true) == 1
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local wanted = headers:get("x-http-code")
  headers:remove("x-http-code")
  headers:remove("grpc-message")
  local status = tonumber(headers:get(":status"))
  if wanted and status == 200 and wanted:match("^2%d%d$") then
    headers:replace(":status", wanted)
  end
  if status < 400 or not is_json(headers) then
    return
  end
  -- Errors are short; successful answers are never held back here.
  local body = handle:body()
  if body == nil then
    return
  end
  local changed = with_msg(body:getBytes(0, body:length()))
  if changed then
    -- Waiting for the body has made the older handle invalid.
    handle:headers():replace("content-length", tostring(body:setBytes(changed)))
  end
end
