/** A real Chromium without a window, if this machine has one. */
import fs from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Of CHROMIUM, or where systems have it; null if there is none. */
export function chromiumPath(): string | null {
  const given = process.env.CHROMIUM;
  if (given !== undefined) return given;
  return PLACES.find((path) => fs.existsSync(path)) ?? null;
}

export function launch(path: string): Promise<Browser> {
  return chromium.launch({ executablePath: path, args: ['--no-sandbox', '--disable-gpu'] });
}
